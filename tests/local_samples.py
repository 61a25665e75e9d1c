"""Prompts, labels and one shared classifier a mode for the tests of the local classifier."""

from functools import cache

from router import Label, LocalClassifier, Policy

LABELS = Policy.preset("seed").labels
PROMPTS = (
    "capital of mongolia",
    "What is the boiling point of acetone?",
    "write a python function that merges two sorted lists",
    "KeyError: 'total' in report.py line 40, why",
    "A train leaves at 9:10 and needs 2 h 25 min. When does it arrive? Show your steps.",
    "Prove that the sum of two odd numbers is even.",
    "Write a short poem about a lonely lighthouse.",
    "names for a shop that sells only umbrellas",
    "¿Quién pintó el Guernica?",
    "写一首关于雪的诗",
)
OWN = (
    Label(
        "billing",
        "Is it about money?",
        "gpt-4o-mini",
        tuple(
            f"{start} {what}"
            for start in (
                "why was I charged",
                "please refund",
                "invoice shows",
                "the payment failed for",
                "update my card for",
            )
            for what in ("the yearly plan", "two seats last month")
        ),
    ),
    Label(
        "shipping",
        "Is it about a parcel?",
        "gpt-4o",
        tuple(
            f"{start} {what}"
            for start in (
                "where is",
                "when will you deliver",
                "the courier lost",
                "change the address of",
                "tracking shows no news of",
            )
            for what in ("my parcel", "the lamp I ordered")
        ),
    ),
)
MARKER = "zebra-crossing-4711"


@cache
def classifier(mode="both"):
    return LocalClassifier(encoders=mode)
