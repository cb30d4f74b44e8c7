"""Mistakes made to the text of a robot YAML, at random."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

WEIRD = [
    ".nan", "-.inf", "1.0e999", "9" * 400, "-0", "0", "1e3", "~", "null", "true", "yes", "''", "[]", "{}",
    "[.nan]", "{a: .inf}", "0x1F", "1:2:3", "2020-01-01", "!!binary aGk=", "!!set {a}", "!x y", "&a b", "*a",
    "<<", "? x", "| \n x", "'", '"', "\\", "\x00", "\u2028", "🤖", "- x", "a: b", "%TAG", "---", "...", "#",
    "-1", "1.5", "'nan'", "NaN", "inf", "Infinity", "null: 1", "[[[[", "}}", "@", "`", "TODO",
    "90", "45", "both", "compressed", "YUYV", "mjpg", "/dev/null", "{v4l2: {device: /dev/video0}}",
    "{realsense: {}}", "{x: 600, y: 0, width: 64, height: 64}", "{arm: left, position: [0, 0, 0]}",
    "extends: franka.yaml", "extends: aloha.yaml", "extends: .", "57.29578", "1000", "0.001", "6.5", "-3.2",
]  # fmt: skip
NUMBER = re.compile(r"-?\d+(\.\d+)?")
WORD = re.compile(r"[A-Za-z_/][\w/]*")


# What is done to the text of a file. Each takes the lines and changes them in place.


def weird_value(rng: random.Random, lines: list[str], at: int) -> None:
    lines[at] = lines[at].split(":")[0] + ": " + rng.choice(WEIRD)


def weird_word(rng: random.Random, lines: list[str], at: int) -> None:
    words = lines[at].replace(",", " , ").split(" ")
    words[rng.randrange(len(words))] = rng.choice(WEIRD)
    lines[at] = " ".join(words)


def no_line(rng: random.Random, lines: list[str], at: int) -> None:
    del lines[at]


def line_twice(rng: random.Random, lines: list[str], at: int) -> None:
    lines.insert(rng.randrange(len(lines)), lines[at])


def indentation(rng: random.Random, lines: list[str], at: int) -> None:
    lines[at] = rng.choice([" ", "  ", "\t", ""]) + lines[at].strip()


def character(rng: random.Random, lines: list[str], at: int) -> None:
    if lines[at]:
        spot = rng.randrange(len(lines[at]))
        new = rng.choice("[]{}:,#&*!|>'\"%@`-? \x0b\x80é0.")
        lines[at] = lines[at][:spot] + new + lines[at][spot + 1 :]


def cut_off(rng: random.Random, lines: list[str], at: int) -> None:
    del lines[at:]


def another_number(rng: random.Random, lines: list[str], at: int) -> None:
    """Degrees, millimetres, signs, orders of magnitude."""
    found = list(NUMBER.finditer(lines[at]))
    if found:
        hit = rng.choice(found)
        factor = rng.choice([57.29578, 0.0174533, 1000, 0.001, -1, 0, 10, 0.1, 1.5, 1e6])
        lines[at] = f"{lines[at][: hit.start()]}{float(hit[0]) * factor:.6f}{lines[at][hit.end() :]}"


def two_words_swapped(rng: random.Random, lines: list[str], at: int) -> None:
    """Left and right, joints in another order, a range reversed, a topic for another."""
    other = rng.choice([at, rng.randrange(len(lines))])
    pattern = rng.choice([NUMBER, WORD])
    one, two = list(pattern.finditer(lines[at])), list(pattern.finditer(lines[other]))
    if one and two:
        a, b = rng.choice(one), rng.choice(two)
        lines[other] = lines[other][: b.start()] + a[0] + lines[other][b.end() :]
        if at != other:
            lines[at] = lines[at][: a.start()] + b[0] + lines[at][a.end() :]


MUTATIONS: list[Callable[[random.Random, list[str], int], None]] = [
    weird_value, weird_word, no_line, line_twice, indentation, character, cut_off, another_number,
    another_number, two_words_swapped, two_words_swapped,
]  # fmt: skip


def mutated(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if lines:
            rng.choice(MUTATIONS)(rng, lines, rng.randrange(len(lines)))
    return "\n".join(lines)
