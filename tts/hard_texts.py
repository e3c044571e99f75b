"""Texts on which speakers break: single words, lists, numbers, repetitions, long ones."""

from __future__ import annotations

HARD = (
    "Yes.",
    "No!",
    "Why?",
    "Oh.",
    "A.",
    "Hello",
    "Stop, stop, stop!",
    "One, two, three, four, five, six, seven, eight, nine, ten.",
    "1 2 3 4 5 6 7 8 9 10 11 12",
    "The number is 1,234,567.89.",
    "Call 555-0199 now.",
    "3.14159265358979",
    "On 2026-11-26 at 23:59 it was -12.5 °C.",
    "$1,000,000 is not £750.50 or €20.",
    "A, B, C, D, E, F, G.",
    "NASA, FBI, USA and UK.",
    "e.g. i.e. etc. vs. Mr. Mrs. Dr. St.",
    "www.example.com/path?query=1",
    "someone.else@mail.example.org",
    "no no no no no no no no no no no no",
    "ha ha ha ha ha",
    "Buffalo buffalo Buffalo buffalo buffalo buffalo Buffalo buffalo.",
    "The the the the.",
    "She sells sea shells by the sea shore.",
    "How much wood would a woodchuck chuck if a woodchuck could chuck wood?",
    "Rhythm myths.",
    "Psst! Hmm. Shh.",
    "Xylophone zephyr queue.",
    "supercalifragilisticexpialidocious",
    "Antidisestablishmentarianism and floccinaucinihilipilification.",
    "Llanfairpwllgwyngyll is a village.",
    "eggs; milk; bread; butter; salt; pepper; tea; coffee; sugar; rice",
    "Wait... what?! Really?? No way!!!",
    "- first item\n- second item\n- third item",
    "(in brackets) [and others] {and more}",
    "ALL CAPITALS ARE SHOUTED HERE",
    "Chapter IV: Henry VIII and Louis XIV.",
    "I've, you'd, they'll, we're, isn't, can't, o'clock.",
    "The quick brown fox jumps over the lazy dog, and then, because it was tired, and because the sun was "
    "hot, and because there was nothing else to do in the long afternoon, it lay down in the shade of an old "
    "tree and slept until the evening came and the birds were silent again.",
    "It was a cold morning in the north of the country. The roads were empty, and the shops had not "
    "opened. A man with a grey coat walked slowly along the river. He was thinking of his brother, who "
    "had left the town many years ago. Nobody had heard of him since. There had been a letter once, from "
    "a harbour in the south, but it had no name on it. He stopped at the bridge and looked at the water. "
    "It was brown and high after the rain. Two boats were tied to the bank, and a dog was sleeping in one"
    " of them. When the bells began to ring, the dog lifted its head and looked at him. He went on. At "
    "the corner he bought some bread and a newspaper, and he read it while he walked. The news was the "
    "same as on the day before. At home he made a fire and put the kettle on. Then he sat down at the "
    "table and began to write.",
)
