"""Games whose actions are annotated with reward and harm, and exact planners.

What an agent earns and what harm it does, if harm costs it something, or if
harmful actions need a capability token.
"""
