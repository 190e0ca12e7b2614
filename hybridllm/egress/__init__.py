"""The one way out: the only package that can reach a network.

``EgressGate.open`` wants a permit for the exact bytes and checks it twice: before it connects, and again at the moment
when the connection asks for the body; before that nothing of the request has left, not even its head. It connects only to
addresses that it has resolved and checked itself, follows no redirect, reads no variable of the environment (proxies,
certificate authorities), keeps no cookies, asks for no compression, bounds what it reads, and keeps the libraries below it
from writing any of it to a log.
"""

from hybridllm.egress.gate import EgressGate
from hybridllm.egress.response import EgressResponse

__all__ = ["EgressGate", "EgressResponse"]
