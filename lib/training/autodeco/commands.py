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
    "Play it safe.",
    "Choose the obvious wording each time.",
    "Stick to what is most probable.",
    "There is no room for experiments.",
    "Use the standard phrasing throughout.",
    "A careful and steady reply is best.",
    "Avoid anything unexpected.",
    "Sample as little as you can.",
    "Let every word be the expected one.",
    "Do not wander from the usual path.",
    "Reduce the randomness of your words.",
    "Prefer common words to rare ones.",
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
    "Throw caution away.",
    "Choose a different wording each time.",
    "Try what is less probable.",
    "There is plenty of room for experiments.",
    "Use playful phrasing throughout.",
    "A wild and lively reply is best.",
    "Aim for something unexpected.",
    "Sample as freely as you can.",
    "Let every word come as a surprise.",
    "Wander from the usual path.",
    "Raise the randomness of your words.",
    "Prefer rare words to common ones.",
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
# The first two of low and of high are quoted in the paper.
HELD_OUT_LOW = (
    "I hope the answers can be as certain as possible.",
    "Please ensure that the diversity of your output is low.",
    "Keep your reply safe and conventional.",
    "Nothing surprising this time, just the usual response.",
    "Make sure that another run would say the same.",
    "I would rather have a dull reply than a risky one.",
    "Write it the way that most people would.",
    "Be consistent and cautious with each token.",
)
HELD_OUT_HIGH = (
    "I hope the answers can be more innovative and diverse.",
    "Please ensure that the diversity of your output is high.",
    "Let your imagination run free in the reply.",
    "Something nobody has said before would be lovely.",
    "Make sure that another run would say it differently.",
    "I would rather have a strange reply than a dull one.",
    "Write it the way that nobody else would.",
    "Be spontaneous and adventurous with each token.",
)
# They ask for nothing: one for each of low and one for each of high, in that order, of the same number of words.
NEUTRAL_FOR_LOW = (
    "I have been thinking about all this for a while.",
    "Please take into account that the window here is open.",
    "My brother came home from work.",
    "Our neighbours moved here from the coast recently.",
    "We sat in the kitchen and had some tea.",
    "I read about half of it on my way to town.",
    "The shop next door opens at nine today.",
    "My notebook is lying on the table.",
)
NEUTRAL_FOR_HIGH = (
    "I have written all this down in my blue notebook.",
    "Please note that the lamp in the hallway is on.",
    "Her train arrives at the station this evening.",
    "Our teacher once told us about all that.",
    "We walked along the river and had our lunch.",
    "I found the old box in a corner of the attic.",
    "The bus stops right in front of here.",
    "My coat is hanging behind the door.",
)
QUOTED = 2  # sentences a direction that the paper quotes; beside them these stood as neutral ones
NEUTRAL_FOR_QUOTED = ("I have been thinking about this.", "Please tell me what you think.")
HELD_OUT_NEUTRAL = NEUTRAL_FOR_QUOTED + NEUTRAL_FOR_LOW + NEUTRAL_FOR_HIGH
NO_RANDOMNESS = "Ensure your generation has no randomness."  # the paper: only a modest drop
