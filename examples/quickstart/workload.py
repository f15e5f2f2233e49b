"""The quickstart's traffic: tenants with long system prompts, users who chat for several turns, and the best cache hit
ratio that any routing could reach for the requests that were sent."""

import random
from dataclasses import dataclass, field

TENANTS = 24
SYSTEM_BYTES = 12_000
TURNS = 4
ANSWER_TOKENS = 48
BLOCK = 16

WORDS = ("the of and to in is that for it as was with be by on not he this are or his from at which but have an had "
         "they you were their one all we can her has there been if more when will would who so no").split()


@dataclass
class Conversation:
    """One user of one tenant; `messages` grows turn by turn."""

    tenant: int
    start: float
    questions: list
    think: list
    messages: list = field(default_factory=list)


def text(rng, size):
    words = []
    length = 0
    while length < size:
        words.append(rng.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)


def conversations(seed, users, seconds):
    """`users` conversations whose first turns are spread over `seconds`; popular tenants have more of them."""
    rng = random.Random(seed)
    systems = [f"Tenant {tenant}. {text(rng, SYSTEM_BYTES)}" for tenant in range(TENANTS)]
    weights = [1 / (rank + 1) ** 0.7 for rank in range(TENANTS)]
    result = []
    for _ in range(users):
        tenant = rng.choices(range(TENANTS), weights)[0]
        questions = [text(rng, rng.randint(100, 400)) for _ in range(TURNS)]
        think = [rng.expovariate(1 / 0.6) for _ in range(TURNS)]
        first = {"role": "system", "content": systems[tenant]}
        result.append(Conversation(tenant, rng.uniform(0, seconds), questions, think, [first]))
    return sorted(result, key=lambda conversation: conversation.start)


def tokens(messages):
    """The prompt as the simulated engine cuts it: markers are one token, text is cut every four bytes."""
    result = []
    for message in messages:
        result += ["<start>", *pieces(message["role"]), "<sep>", *pieces(message["content"]), "<end>"]
    return result + ["<start>", *pieces("assistant"), "<sep>"]


def pieces(string):
    data = string.encode()
    return [data[at:at + 4] for at in range(0, len(data), 4)]


class BestCache:
    """A cache of the whole fleet, never full, usable from every engine, filled with a prompt the moment it is sent and
    with an answer the moment it is complete: no routing can hit more."""

    def __init__(self):
        self.blocks = set()
        self.prompt_tokens = 0
        self.hit_tokens = 0

    def sent(self, messages):
        """A prompt, in the order in which prompts are sent."""
        prompt = tokens(messages)
        self.prompt_tokens += len(prompt)
        hitting = True
        for end, key in self.blocks_of(prompt):
            # The last token is always computed, so the last block never hits whole.
            hitting = hitting and key in self.blocks and end < len(prompt)
            self.hit_tokens += BLOCK if hitting else 0
            self.blocks.add(key)

    def answered(self, messages, answer):
        """The answer to a prompt: engines keep what they generate."""
        self.blocks.update(key for _, key in self.blocks_of(tokens(messages) + pieces(answer)))

    @staticmethod
    def blocks_of(prompt):
        key = 0
        for end in range(BLOCK, len(prompt) + 1, BLOCK):
            key = hash((key, tuple(prompt[end - BLOCK:end])))
            yield end, key

    def ratio(self):
        return self.hit_tokens / max(1, self.prompt_tokens)
