"""Training the heads: `soft.py` is the loss, `hidden_states.py` the data, `loop.py` the steps.

`control.py` teaches trained heads to follow commands, `adapter.py` does so together with the base. `reward.py` trains
heads by the task's scorer instead, with the policy gradient of `policy.py`.
"""
