"""Makes the engine's answers out of requests: tokens, sampler, and whatever else of an answer its request asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_runtime.detokenizer import IncrementalDetokenizer, StopStrings
from local_runtime.errors import ContextLengthExceededError, InvalidRequestError, OutOfMemoryError
from local_runtime.generation import Generation
from local_runtime.grammar import GrammarCompiler
from local_runtime.healing import BegunAnswer, Healing, take_back
from local_runtime.logprobs import Logprobs, PromptLogprobs
from local_runtime.sampling import Sampler
from local_runtime.sequence import Sequence
from local_runtime.speculation import Speculation
from local_runtime.tool_calls.answers import answer_grammar, answer_parser, shown_tools, template_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from local_runtime.events import Event
    from local_runtime.generation import Constraint
    from local_runtime.model_interface import Model
    from local_runtime.options import GenerateRequest
    from local_runtime.speculation import StepCosts

__all__ = ["Preparation"]


class Preparation:
    """Prepares answers of one loaded model.

    Args:
        model: The model.
        step_costs: What steps take, for greedy answers whose next tokens are guessed; None guesses none.
    """

    def __init__(self, model: Model, step_costs: StepCosts | None) -> None:
        runner = model.runner
        self._name = model.info.name
        self._tokenizer = model.tokenizer
        self._recommended_sampling = model.recommended_sampling
        self._vocab_size = runner.vocab_size
        self._context_tokens = runner.context_tokens
        # What lets go of its beginning fits, however long it becomes.
        slides = runner.window is not None
        self._capacity_tokens = self._context_tokens if slides else runner.total_pages * runner.page_tokens
        self._score_tokens = runner.score_tokens
        self._grammars = GrammarCompiler(model.tokenizer, runner.vocab_size)
        self._step_costs = step_costs

    def generation(
        self,
        request_id: int,
        request: GenerateRequest,
        emit: Callable[[Event], None],
        *,
        sequence_id: int,
        submitted_at: float,
    ) -> Generation:
        """Tokenise a request, check it against the model, and take what was said of its answer elsewhere.

        Args:
            request_id: The caller's name for it.
            request: What to generate.
            emit: Takes its events.
            sequence_id: The runner's name for its sequence.
            submitted_at: When it came, in seconds of ``time.perf_counter``.

        Returns:
            The answer at its beginning; or at its end, if what was said elsewhere is all of it.

        Raises:
            LocalRuntimeError: This model can't answer it.
        """
        prompt, said = self._prompt(request)
        room = self._room(len(prompt), len(said))
        self._check_ids("stop_token_ids", request.stop_token_ids)
        bias = {int(token): value for token, value in request.logit_bias.items()}
        self._check_ids("logit_bias", bias)
        stops = StopStrings(request.stop)
        # Text that no stop string may end is not searched for one; what was said elsewhere is such text, too.
        is_whole = not request.min_tokens and stops.begin(request.answer_begun)
        begun = BegunAnswer(said) if is_whole else self._begun(said, request.answer_begun)
        max_tokens = room if request.max_tokens is None else request.max_tokens
        sequence = Sequence(
            sequence_id,
            [*prompt, *begun.kept],
            # What is said again is no part of max_tokens, and takes at most a token for each byte.
            min(max_tokens + len(begun.remainder), room + begun.taken_back),
            conversation=request.conversation,
            open_ended=request.max_tokens is None,
        )
        token_bytes = self._tokenizer.token_bytes
        of_prompt = None
        if request.prompt_logprobs is not None:
            of_prompt = PromptLogprobs(Logprobs(token_bytes, request.prompt_logprobs), prompt)
            sequence.chunk_tokens, sequence.no_prefix = self._score_tokens, True
        sampler = Sampler(request.sampling.over(self._recommended_sampling), prompt, bias)
        sampler.continue_after(begun.kept, drawn=False)
        parser = answer_parser(self._tokenizer, request, prompt, request_id)
        generation = Generation(
            request_id=request_id,
            emit=emit,
            sequence=sequence,
            sampler=sampler,
            detokenizer=IncrementalDetokenizer(
                self._tokenizer,
                visible_ids=frozenset() if parser is None else parser.visible_ids,
                bytes_out=len(begun.remainder) if request.answer_begun else None,
            ),
            stops=stops,
            eos_ids=frozenset() if request.ignore_eos else self._tokenizer.eos_ids,
            stop_ids=frozenset(request.stop_token_ids),
            prompt_tokens=len(prompt),
            max_tokens=max_tokens,
            min_tokens=request.min_tokens,
            submitted_at=submitted_at,
            begun_tokens=len(begun.kept),
            healing=self._healing(begun.remainder),
            constraint=self._constraint(request, prompt, begun.kept),
            parser=parser,
            logprobs=None if request.logprobs is None else Logprobs(token_bytes, request.logprobs),
            prompt_logprobs=of_prompt,
            speculation=self._speculation(sequence, sampler),
            end="stop" if is_whole else None,
        )
        if request.answer_begun_ids is not None and generation.end is None:
            self._replay(generation, request.answer_begun_ids)
        return generation

    def _prompt(self, request: GenerateRequest) -> tuple[list[int], list[int]]:
        """Tokens of the prompt, and of the answer that somebody else has begun."""
        begun = request.answer_begun
        if request.raw_token_ids is not None:
            self._check_ids("raw_token_ids", request.raw_token_ids)
            return request.raw_token_ids, self._tokenizer.encode(begun) if begun else []
        variables = template_variables(request.chat_template_kwargs, shown_tools(request))
        if begun:
            prompt, said = self._tokenizer.encode_begun(request.messages, begun, **variables)
        else:
            prompt, said = self._tokenizer.encode_chat(request.messages, **variables), []
        if not prompt:
            raise InvalidRequestError("The conversation comes to no tokens at all.", "Give a message with content.")
        return prompt, said

    def _begun(self, said: list[int], text: str) -> BegunAnswer:
        """Which of the begun answer's tokens to keep, and what to say again."""
        if not said:
            return BegunAnswer([])
        token_bytes = self._tokenizer.token_bytes
        return take_back(said, token_bytes.left_out_first + text.encode(), token_bytes.of, self._tokenizer.prefixes())

    def _healing(self, remainder: bytes) -> Healing | None:
        return Healing(remainder, self._tokenizer.prefixes(), self._tokenizer.token_bytes.of) if remainder else None

    def _constraint(self, request: GenerateRequest, prompt: list[int], said: list[int]) -> Constraint | None:
        """What holds an answer to a grammar, after what was said of it already; None if its text is free."""
        grammar = answer_grammar(self._tokenizer, request, prompt)
        if grammar is None:
            return None
        constraint = self._grammars.constraint(grammar, begun=bool(request.answer_begun))
        for token in said:
            constraint.take(token)
        return constraint

    def _speculation(self, sequence: Sequence, sampler: Sampler) -> Speculation | None:
        if self._step_costs is None or not sampler.is_greedy:
            return None
        return Speculation(sequence.tokens, self._step_costs)

    def _replay(self, generation: Generation, token_ids: list[int]) -> None:
        self._check_ids("answer_begun_ids", token_ids)
        tokens = len(generation.sequence.tokens) + len(token_ids)
        room = min(self._context_tokens, self._capacity_tokens)
        if tokens > room:
            raise OutOfMemoryError(
                f"The prompt and the answer so far have {tokens} tokens, but there is memory for {room} now.",
                "Ask again when more memory is free.",
            )
        generation.replay(token_ids)

    def _check_ids(self, name: str, token_ids: Iterable[int]) -> None:
        vocab_size = self._vocab_size
        for index, token in enumerate(token_ids):
            if token >= vocab_size:
                raise InvalidRequestError(
                    f"{name}[{index}] is {token}, but this model's vocabulary has {vocab_size} tokens.",
                    f"Give ids from 0 to {vocab_size - 1}.",
                )

    def _room(self, prompt_tokens: int, begun_tokens: int) -> int:
        """How many tokens may follow a prompt and a begun answer, up to the end of the context."""
        tokens, context_tokens = prompt_tokens + begun_tokens, self._context_tokens
        what = f"The prompt has {prompt_tokens} tokens"
        if begun_tokens:
            what = f"The prompt and the beginning of its answer have {tokens} tokens"
        if tokens >= context_tokens:
            raise ContextLengthExceededError(
                f"{what}, but the context of {self._name} holds {context_tokens} for prompt and answer together.",
                f"Shorten the conversation by at least {tokens - context_tokens + 1} tokens, or load the model "
                "with a larger context_tokens if it has one.",
            )
        if tokens >= self._capacity_tokens:
            raise OutOfMemoryError(
                f"{what}, but the key-value cache has memory for {self._capacity_tokens}.",
                "Shorten the conversation, or load the model where more memory is free.",
            )
        return min(context_tokens, self._capacity_tokens) - tokens
