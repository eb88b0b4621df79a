"""A second implementation of Mildam's protocol, written from docs/protocol.md and docs/e2ee.md alone.

It shares no code with the Rust side. `vectors` computes every value of docs/vectors anew; `talk` is a
client of a running relay. Only for tests: keys live in memory, nothing is stored or erased.
"""
