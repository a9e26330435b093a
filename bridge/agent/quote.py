"""What others say, made fit to stand in a message: short, and without control characters."""

_LONGEST = 400


def quote(text: str, longest: int = _LONGEST) -> str:
    """The beginning of a text; line ends stay, other control characters become spaces.

    Args:
        text: As a replica or a canister sent it.
        longest: How many characters to keep.
    """
    shown = "".join(
        char if char.isprintable() or char == "\n" else " " for char in text[:longest]
    ).strip()
    return f"{shown} [...]" if len(text) > longest else shown
