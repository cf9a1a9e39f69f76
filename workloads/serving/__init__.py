"""Requests that a server answers, and how its scheduler batches them: pure rules, without a clock and hardware.

- `workloads.serving.requests`: a request, a request in service, and the batch of one step.
- `workloads.serving.arrivals`: when requests arrive; `lengths`: how long prompts and answers are.
- `workloads.serving.kv_cache`: blocks of keys and values, with a cache of prefixes.
- `workloads.serving.server`: the limits of a server; `policies`: which requests form the next batch (vLLM, SGLang).
- `workloads.serving.speculation`: how many outputs a step yields where tokens are proposed.
- `workloads.serving.balancers`: which data-parallel rank a request goes to.
"""
