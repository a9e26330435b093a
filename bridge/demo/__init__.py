"""A guided run of the main job: flows between Python and real Motoko canisters, one by one.

Payloads are random, the expected responses are computed here and not by the canisters, and the
messages shown are those that the replica logged or the agent fetched.
"""

from bridge.demo.run import DemoReport, FlowReport, run_demo

__all__ = ["DemoReport", "FlowReport", "run_demo"]
