"""What is made is made once, and not kept for ever."""

from al_lab.models.recent import Recent


def test_the_value_unused_for_longest_goes() -> None:
    made: list[str] = []

    def get(key: str) -> str:
        return recent.get(key, lambda: made.append(key) or key.upper())

    recent: Recent[str] = Recent(2)
    assert [get(key) for key in "abacab"] == list("ABACAB")
    assert "".join(made) == "abcb"  # b was unused for longest when c came, a never was
    assert len(recent) == 2
