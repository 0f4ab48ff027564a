"""`brokerq demo`: real rows, real processes, a killed worker, and a ledger that has to agree."""

from brokerq.demo.run import run_demo

__all__ = ["run_demo"]
