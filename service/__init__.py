"""The chat-serving microservice.

Read `engine` first: its loop (plan, run, commit) ties the rooms together. `core` decides, `execution` computes, `api`
speaks HTTP, `cli` builds the objects from the settings in `config`. `errors` is the tree of all errors.
"""
