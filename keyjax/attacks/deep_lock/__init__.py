"""Attacks on Deep-Lock, most of them on its published key schedule.

The published schedule is the AES key expansion continued, and an expansion
runs backwards: Nk consecutive keystream words give all others and the master
key. InvSbox(w') XOR w is a keystream word, so four known float32 weights are
enough, wherever they are (`known_plaintext`). Two licensees need no known
weight: the XOR of their files gives both schedules (`two_files`). With one
file, the schedule's linear relation tells it from noise (`distinguish`).

Against the counter schedule the same attacks find nothing. What remains there
is malleability (`malleability`), a second file under the same nonce
(`two_files`), and what no encryption of parameters hides: paths, shapes,
dtypes.
"""
