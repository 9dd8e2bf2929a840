"""Ways in which a file gets damaged, and is damaged by tests."""


def flipped(content):
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


WAYS = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "flipped": flipped,
}
