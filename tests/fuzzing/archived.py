"""What is in the archives, and odd names for it."""

from samples import encoded, noise

FILES = {"cat/a.png": encoded(noise(0)), "dog/b.png": encoded(noise(1)), "notes.txt": b"notes"}
NAMES = {
    "empty": "", "a folder": "cat/", "a dot": ".", "outside": "../../a.png", "absolute": "/tmp/a.png",
    "of Windows": "..\\..\\a.png", "a drive": "C:\\a.png", "300 letters": f"cat/{'a' * 300}.png",
    "65,000 letters": f"cat/{'a' * 64_990}.png", "1,100 levels": "a/" * 1100 + "a.png", "slashes": "/" * 999,
    "NUL": "cat/a\0b.png", "escapes": "cat/\x1b[2J\x07.png", "lines": "cat\n/a\r\n.png", "hidden": ".cat/a.png",
    "taken": "cat/a.png", "taken, in capitals": "CAT/A.PNG", "right to left": "cat/\u202egnp.a",
    "two forms": "cafe\u0301/a.png", "a formula": "=1+1/a.png", "a pipe": "cat|dog/a.png", "no class": "a.png",
    "quotes": "'\"/$(id).png",
}  # fmt: skip
MEGABYTE = bytes(1 << 20)
