"""The only home of joint orders.

`skeleton` says what a joint order is, `catalog` holds every order that posekit knows, `mapping` takes values from one order
to another by name. Nothing elsewhere lists joint numbers.
"""
