"""The sentences of natural-language control: those that are learned from, and those for the test alone."""

LOW = (
    "Please keep the answer as predictable as possible.",
    "Answer with low diversity.",
    "Be conservative and precise.",
    "Do not be creative here.",
    "Give the most likely answer.",
    "Stay deterministic.",
    "I want certain answers only.",
    "Keep the diversity low.",
    "Ensure that the output varies little.",
    "Take no risks with the wording.",
    "I hope for an exact and sober answer.",
    "Low temperature, please.",
)
HIGH = (
    "Please make the answer as varied as possible.",
    "Answer with high diversity.",
    "Be bold and creative.",
    "Surprise me with the answer.",
    "Give an unusual answer.",
    "Explore freely.",
    "I want inventive answers only.",
    "Keep the diversity high.",
    "Ensure that the output varies much.",
    "Take risks with the wording.",
    "I hope for a fresh and daring answer.",
    "High temperature, please.",
)
NONE = (
    "Leave nothing to chance.",
    "Use no randomness at all.",
    "Always choose the likeliest word.",
    "Decode greedily.",
    "Set the temperature to zero.",
    "Answer without any sampling.",
    "Your output has to be free of chance.",
    "Ensure that nothing is drawn at random.",
    "No variation is wanted at all.",
    "Be fully deterministic.",
    "Zero temperature, please.",
    "Give the same answer every time.",
)
# They ask for nothing, so that heads learn what a sentence says and not that there is one.
NEUTRAL = (
    "Thank you.",
    "I ask out of curiosity.",
    "This is for a friend.",
    "My sister wants to know.",
    "It is a question from a book.",
    "I heard it on the train.",
    "We spoke of it at dinner.",
    "It has been a long day.",
    "I am new here.",
    "The weather is fine.",
    "Let us go on.",
    "That is my question.",
)
# The first of low and high are quoted in the paper.
HELD_OUT_LOW = (
    "I hope the answers can be as certain as possible.",
    "Please ensure that the diversity of your output is low.",
)
HELD_OUT_HIGH = (
    "I hope the answers can be more innovative and diverse.",
    "Please ensure that the diversity of your output is high.",
)
HELD_OUT_NEUTRAL = ("I have been thinking about this.", "Please tell me what you think.")
NO_RANDOMNESS = "Ensure your generation has no randomness."  # the paper: only a modest drop
