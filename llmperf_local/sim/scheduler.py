"""TGI's continuous batching, event by event in virtual time.

It follows the router's loop: admission, a FIFO queue with token budgets, and passes of the model
that take prompts in or give each running request a token. Nothing here waits: the caller says what
the time is, and is told what has left the server by then.

Source: text-generation-inference 3.3.7, `backends/v3/src/backend.rs` and `queue.rs`; its loop
without chunking is that of 1.0.3, `router/src/infer.rs`.
"""

import math
import sys
from collections import deque
from random import Random

from attrs import define, field

from llmperf_local.sim.cache import BlockPool, Chain, chain_of
from llmperf_local.sim.hardware import Hardware
from llmperf_local.sim.options import ServerOptions
from llmperf_local.sim.requests import Ask, Emission, FinishReason, Gauges, Ticket


@define(eq=False)
class _Sequence:
    """A request in the queue or in the batch, as the model sees it."""

    ticket: Ticket
    length: int
    """How many tokens its answer has."""
    reason: FinishReason
    """Why it ends there."""
    chain: Chain
    blocks: int
    """KV blocks that prompt and answer take at most; all are reserved before it starts."""
    rng: Random
    hits: int = 0
    """Of `blocks`, those shared with the prefix cache."""
    prompt_left: int = 0
    """Prompt tokens that no pass has taken in yet."""
    chunk: int = 0
    """Prompt tokens that the pass under way takes in."""
    computed: int = 0
    """Tokens of the answer that the model has computed."""
    done: bool = False


@define(eq=False)
class Scheduler:
    """A server's scheduler and its hardware.

    Instants are nanoseconds on the caller's clock. They never go back: what is said to have
    happened before the latest instant happens at the latest instant.
    """

    hardware: Hardware
    options: ServerOptions = field(factory=ServerOptions)
    seed: int = field(default=0, kw_only=True)
    """Decides the jitter and, with the seed of each ask, its answer."""
    _now_ns: int = field(default=0, init=False)
    _admitted: int = field(default=0, init=False)
    _in_flight: int = field(default=0, init=False)
    _queue: deque[_Sequence] = field(factory=deque, init=False)
    _batch: list[_Sequence] = field(factory=list, init=False)
    _pass: list[_Sequence] = field(factory=list, init=False)
    """Those that the pass under way computes; empty while the model is idle."""
    _pass_ends_at_ns: int = field(default=0, init=False)
    _pass_computed: bool = field(default=False, init=False)
    """Whether `prepare` has been at the pass under way."""
    _may_admit: bool = field(default=True, init=False)
    """Whether the router looks at its queue before the next pass."""
    _waiting_tokens: int = field(default=1, init=False)
    _decoding: int = field(default=0, init=False)
    """Of the batch, those whose prompt is taken in."""
    _context_tokens: int = field(default=0, init=False)
    """KV tokens that those have."""
    _leaving: deque[Emission] = field(factory=deque, init=False)
    """Computed; their instants lie ahead."""
    _left: list[Emission] = field(factory=list, init=False)
    """Left the server, but `advance` has not said so yet."""
    _router_free_at_ns: int = field(default=0, init=False)
    _tuned_sizes: set[int] = field(factory=set, init=False)
    _emit_ns: int = field(init=False)
    _speculate: int = field(init=False)
    _pool: BlockPool = field(init=False)
    _rng: Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        tokens = self.options.max_batch_total_tokens or self.hardware.kv_tokens
        self._emit_ns, self._speculate = self.hardware.emit_ns, self.options.speculate
        self._pool = BlockPool(tokens // self.options.block_size)
        self._rng = Random(self.seed)  # noqa: S311 -- chance, not secrets
        # TGI warms up with the longest prefill there can be.
        self._tuned_sizes.add(self.hardware.tuned_size(self._pass_tokens))

    @property
    def gauges(self) -> Gauges:
        """How it stands, as of the latest instant."""
        size = self.options.block_size
        return Gauges(
            queue_size=len(self._queue),
            batch_size=len(self._batch),
            batch_tokens=self._pool.in_use * size,
            cached_tokens=self._pool.cached * size,
            in_flight=self._in_flight,
        )

    def submit(self, ask: Ask, at_ns: int) -> Ticket | None:
        """Take a request in.

        Returns:
            None if as many are queued and running as may be: "Model is overloaded".

        Raises:
            ValueError: it could never run: it needs more KV tokens than there are, or its prompt is
                longer than one pass may be and prefills are not chunked.
        """
        self._run_to(at_ns)
        if self._in_flight >= self.options.max_concurrent_requests:
            return None
        blocks = self._blocks_for(ask)
        ticket = Ticket(id=self._admitted, ask=ask, queued_at_ns=self._now_ns)
        self._admitted += 1
        self._in_flight += 1
        self._queue.append(self._sequence(ticket, blocks))
        if not self._pass:
            self._begin_pass(self._now_ns)
        return ticket

    def cancel(self, ticket: Ticket, at_ns: int) -> None:
        """Give a request up, as a client that has gone does; nothing happens if it has ended.

        No token of it leaves any more, and its permit is free at once. What it holds of the queue
        or the batch is free when the scheduler next comes to it, as in TGI.
        """
        self._run_to(at_ns)
        if ticket.ended_at_ns is None:
            self._end(ticket, self._now_ns, "cancelled")

    def next_at_ns(self) -> int | None:
        """Return when something happens next if nothing is submitted; None if nothing does."""
        due = [emissions[0].at_ns for emissions in (self._left, self._leaving) if emissions]
        if self._pass:
            due.append(self._pass_ends_at_ns)
        return min(due, default=None)

    def advance(self, to_ns: int) -> list[Emission]:
        """Return all tokens that leave up to and including `to_ns`, in order, each once."""
        self._run_to(to_ns)
        left, self._left = self._left, []
        return left

    def prepare(self) -> None:
        """Compute what the pass under way will bring, as nobody joins it any more.

        Whoever plays in real time does this while there is time. No token leaves earlier for it,
        but the KV tokens of answers that end with the pass are free at once.
        """
        if self._pass_computed:
            return
        self._pass_computed = True
        for sequence in self._pass:
            if self._compute(sequence, self._pass_ends_at_ns):
                self._retire(sequence)

    def _run_to(self, to_ns: int) -> None:
        self._now_ns = max(self._now_ns, to_ns)
        while self._pass and self._pass_ends_at_ns <= self._now_ns:
            self._end_pass(self._pass, self._pass_ends_at_ns)
        leaving = self._leaving
        while leaving and leaving[0].at_ns <= self._now_ns:
            self._leave(leaving.popleft())

    def _leave(self, emission: Emission) -> None:
        ticket = emission.ticket
        if ticket.ended_at_ns is not None:
            return  # its client has gone since it was computed
        if ticket.first_token_at_ns is None:
            ticket.first_token_at_ns = emission.at_ns
        ticket.generated += emission.tokens
        if emission.finish_reason is not None:
            self._end(ticket, emission.at_ns, emission.finish_reason)
        self._left.append(emission)

    def _end(self, ticket: Ticket, at_ns: int, reason: FinishReason) -> None:
        ticket.ended_at_ns, ticket.finish_reason = at_ns, reason
        self._in_flight -= 1

    def _blocks_for(self, ask: Ask) -> int:
        options = self.options
        # The last token of an answer is never fed back, so it needs no place.
        tokens = ask.input_tokens + ask.max_new_tokens + options.speculate - 1
        blocks = -(-tokens // options.block_size)
        if blocks > self._pool.blocks:
            there = self._pool.blocks * options.block_size
            raise ValueError(f"the request needs {tokens} KV tokens, and there are {there}")
        longest = options.max_batch_prefill_tokens
        if ask.input_tokens > longest and not options.chunked:
            raise ValueError(f"the prompt has {ask.input_tokens} tokens, a pass takes {longest}")
        return blocks

    def _sequence(self, ticket: Ticket, blocks: int) -> _Sequence:
        ask, options = ticket.ask, self.options
        rng = Random(hash((self.seed, ask.seed)))  # noqa: S311 -- chance, not secrets
        length = ask.max_new_tokens
        own_length = math.inf if ask.ignore_eos else options.answers.draw_length(rng)
        reason: FinishReason = "length"
        if own_length < length:  # TGI checks the limit first, so an end exactly there is `length`
            length, reason = int(own_length), "eos_token"
        whole_blocks = ask.input_tokens // options.block_size
        chain = chain_of(ask.prefix[:whole_blocks]) if options.prefix_caching else ()
        return _Sequence(ticket, length, reason, chain, blocks, rng)

    def _begin_pass(self, at_ns: int) -> None:
        """Start what the model does next, if there is anything to do."""
        if not self._batch:
            taken = self._take(at_ns, min_size=0, prefill_budget=self._pass_tokens)
            if taken:
                self._start_prefill(taken, at_ns)
            self._may_admit = True
            return
        if self._may_admit:
            min_size, prefill_budget = self._limits()
            taken = self._take(at_ns, min_size=min_size, prefill_budget=prefill_budget)
            if taken:
                self._start_prefill(taken, at_ns)
                self._may_admit = False  # first a decode, then the queue again
                return
        self._start(self._batch, at_ns)
        self._waiting_tokens += 1
        self._may_admit = True

    @property
    def _pass_tokens(self) -> int:
        return self.options.max_batch_prefill_tokens

    def _limits(self) -> tuple[int, int]:
        """Return how many requests to take at least, and how many prompt tokens at most."""
        options = self.options
        if options.chunked:
            left = sum(sequence.prompt_left for sequence in self._batch)
            return 0, self._pass_tokens - self._decoding - left
        if self._waiting_tokens >= options.max_waiting_tokens:
            return 0, self._pass_tokens
        return math.floor(len(self._batch) * options.waiting_served_ratio), self._pass_tokens

    def _take(self, at_ns: int, *, min_size: int, prefill_budget: int) -> list[_Sequence]:
        """Move requests from the head of the queue into the batch, as far as the budgets go."""
        queue, taken = self._queue, list[_Sequence]()
        if len(queue) < min_size:
            return taken
        room = (self.options.max_batch_size or sys.maxsize) - len(self._batch)
        while queue and len(taken) < room and prefill_budget > 0:
            sequence = queue.popleft()
            if sequence.ticket.ended_at_ns is not None:
                continue  # its client has gone
            if not self._place(sequence, prefill_budget):
                queue.appendleft(sequence)
                break
            prefill_budget -= sequence.chunk
            taken.append(sequence)
        if len(taken) < min_size:
            for sequence in reversed(taken):
                self._free(sequence, keep=False)
                queue.appendleft(sequence)
            return []
        for sequence in taken:
            ticket = sequence.ticket
            ticket.started_at_ns = at_ns
            ticket.cached_tokens = ticket.ask.input_tokens - sequence.prompt_left
        self._batch += taken
        return taken

    def _place(self, sequence: _Sequence, prefill_budget: int) -> bool:
        """Reserve what a request needs, if there is enough."""
        hits = self._pool.reserve(sequence.blocks, sequence.chain)
        if hits is None:
            return False
        sequence.hits = hits
        # Of a prompt that is cached whole, the last token is computed all the same.
        cached_tokens = hits * self.options.block_size
        sequence.prompt_left = max(1, sequence.ticket.ask.input_tokens - cached_tokens)
        if sequence.prompt_left > prefill_budget and not self.options.chunked:
            self._free(sequence, keep=False)
            return False
        sequence.chunk = min(sequence.prompt_left, prefill_budget)
        return True

    def _free(self, sequence: _Sequence, *, keep: bool) -> None:
        self._pool.release(sequence.blocks, sequence.chain, sequence.hits, keep=keep)

    def _start_prefill(self, taken: list[_Sequence], at_ns: int) -> None:
        # With chunking, the running requests ride along, each with its next token.
        self._start(self._batch if self.options.chunked else taken, at_ns)
        self._waiting_tokens = 1

    def _start(self, sequences: list[_Sequence], at_ns: int) -> None:
        """Start a pass over the sequences: the next token, or a chunk of the prompt, of each."""
        decoding = self._decoding if sequences is self._batch else 0
        chunk_tokens = 0
        if decoding < len(sequences):
            for sequence in sequences:  # older ones first
                budget = self._pass_tokens - decoding - chunk_tokens
                sequence.chunk = max(0, min(sequence.prompt_left, budget))
                chunk_tokens += sequence.chunk
        if decoding:
            lasts_ns = self.hardware.decode_ns(
                decoding, self._context_tokens, chunk_tokens=chunk_tokens
            )
        else:
            lasts_ns = self.hardware.prefill_ns(chunk_tokens)
        if self.hardware.tuning_ns_per_token:
            lasts_ns += self._tuning_ns(decoding + chunk_tokens)
        self._pass, self._pass_computed = sequences, False
        self._pass_ends_at_ns = at_ns + self.hardware.with_jitter(lasts_ns, self._rng)

    def _tuning_ns(self, tokens: int) -> int:
        size = self.hardware.tuned_size(tokens)
        if size in self._tuned_sizes:
            return 0
        self._tuned_sizes.add(size)
        return round(size * self.hardware.tuning_ns_per_token)

    def _end_pass(self, sequences: list[_Sequence], at_ns: int) -> None:
        self.prepare()
        self._pass = []
        for sequence in sequences:
            gone = sequence.ticket.ended_at_ns is not None  # perhaps since it was computed
            if gone and not (sequence.done or sequence.prompt_left):
                self._retire(sequence)
        self._batch = [sequence for sequence in self._batch if not sequence.done]
        self._begin_pass(at_ns)

    def _retire(self, sequence: _Sequence) -> None:
        """Give back what a sequence holds that leaves the batch with the pass it is in."""
        sequence.done = True
        self._decoding -= 1
        self._context_tokens -= sequence.ticket.ask.input_tokens + sequence.computed
        self._free(sequence, keep=True)

    def _compute(self, sequence: _Sequence, at_ns: int) -> bool:
        """Give a sequence what a pass brought it; return whether it leaves the batch."""
        if sequence.prompt_left:
            sequence.prompt_left -= sequence.chunk
            if sequence.prompt_left:
                return False
            self._decoding += 1
            self._context_tokens += sequence.ticket.ask.input_tokens
        ticket, tokens = sequence.ticket, 1
        if ticket.ended_at_ns is not None:  # its client has gone
            return True
        if self._speculate and sequence.computed:
            tokens += self.options.answers.draw_accepted(self._speculate, sequence.rng)
            tokens = min(tokens, sequence.length - sequence.computed)
        sequence.computed += tokens
        self._context_tokens += tokens
        leaves_at_ns = max(at_ns, self._router_free_at_ns)  # one event after the other
        self._router_free_at_ns = leaves_at_ns + tokens * self._emit_ns
        if sequence.computed < sequence.length:
            self._leaving.append(Emission(ticket, leaves_at_ns, tokens, None))
            return False
        self._leaving.append(Emission(ticket, leaves_at_ns, tokens, sequence.reason))
        return True
