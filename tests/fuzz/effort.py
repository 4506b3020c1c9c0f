"""How hard generated tests try."""

import os

from hypothesis import HealthCheck, settings


def examples(number: int, *suppressed: HealthCheck) -> settings:
    """Settings of a property with so many examples; GATEWAY_FUZZ_EXAMPLES in the environment asks for more or fewer."""
    return settings(
        max_examples=int(os.environ.get("GATEWAY_FUZZ_EXAMPLES", number)),
        deadline=None,  # a busy machine is no failure
        suppress_health_check=[HealthCheck.too_slow, *suppressed],
    )
