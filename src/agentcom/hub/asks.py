"""Questions as agents and people put and answer them; what they mean is in `core/asking.py`.

A call that waits is told by the turn that ends the question: nobody looks again and again.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

import msgspec

from agentcom.core import ask_facts, asking, facts
from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.hub.recipients import Recipients
from agentcom.hub.speaking import Speaker
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.batch import Table
from agentcom.model.errors import NotFound
from agentcom.model.policy import Action, Reach, reach
from agentcom.model.replies import AskChanged, Reply
from agentcom.model.task import Task
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store.base import Query, Store

LOOKED_AT_MAX: Final = 1_000
"""Questions that one listing looks at; who wants more goes on from there."""
_PAGE: Final = 100
_OPEN: Final = (AskState.OPEN,)
_ENDED: Final = (AskState.ANSWERED, AskState.EXPIRED, AskState.WITHDRAWN)
_DECODER: Final = msgspec.json.Decoder(AskChanged)


class Asks:
    """Takes calls about the questions of a pool."""

    def __init__(
        self,
        ask: Callable[[Fact], Awaitable[Reply | msgspec.Raw]],
        view: Callable[[], PoolView],
        switchboard: Switchboard,
        *,
        store: Store,
        recipients: Recipients,
    ) -> None:
        self._store = store
        self._recipients = recipients
        self._ask = ask
        self._view = view
        self._switchboard = switchboard

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {
            calls.AskPut: self.put,
            calls.AskShow: self.show,
            calls.AskList: self.list,
            calls.AskAnswer: self.answer,
            calls.AskWithdraw: self.withdraw,
        }

    async def put(self, who: Speaker, call: calls.AskPut, asked: Asked) -> Answer:
        """Put a question, and wait for its answer as long as the call says."""
        to = None if call.to is None else await self._recipients.of(call.to, who.project)
        body = ask_facts.PutAsk(
            question=call.question,
            asker=who.address,
            to=to,
            options=call.options,
            deadline_ms=call.deadline_ms,
            fallback=call.fallback,
            task=who.task,
            fence=who.fence,
        )
        ask = await self._changed(who, body, asked)
        return await self._told(who, ask.id, call.wait_ms, asked)

    async def show(self, who: Speaker, call: calls.AskShow, asked: Asked) -> Answer:
        """Return a question that one may see, and wait for its end as long as the call says."""
        ask = await self._stored(AskId(call.ask))
        if ask is None or not await self._may_see(who, ask):
            raise NotFound(f"there is no question {call.ask}")
        return await self._told(who, ask.id, call.wait_ms, asked)

    async def list(self, who: Speaker, call: calls.AskList, _asked: Asked) -> Answer:
        """Return questions that one may answer, or has put, newest first."""
        before, left = call.after, LOOKED_AT_MAX
        found: list[Ask] = []
        while len(found) < call.limit and left > 0:
            query = Query(
                table=Table.ASK,
                where={"state": _ENDED if call.ended else _OPEN},
                before=before,
                limit=_PAGE,
            )
            page = await self._store.query(query)
            mine = await self._chosen(who, cast("Sequence[Ask]", page.rows), mine=call.mine)
            found += mine
            before, left = page.next, left - _PAGE
            if before is None:
                break
        shown = found[: call.limit]
        more = len(found) > call.limit
        return told.AsksShown(asks=tuple(shown), next=shown[-1].id if more else before)

    async def answer(self, who: Speaker, call: calls.AskAnswer, asked: Asked) -> Answer:
        """Answer a question; the first answer counts."""
        body = ask_facts.AnswerAsk(AskId(call.ask), who.address, call.answer)
        return told.AskShown(ask=await self._changed(who, body, asked))

    async def withdraw(self, who: Speaker, call: calls.AskWithdraw, asked: Asked) -> Answer:
        """Take a question back."""
        body = ask_facts.WithdrawAsk(AskId(call.ask), who.address)
        return told.AskShown(ask=await self._changed(who, body, asked))

    # Parts --------------------------------------------------------------------------------------

    async def _changed(self, who: Speaker, body: facts.Body, asked: Asked) -> Ask:
        key = asked.key
        if key is not None and who.task is not None:  # agents choose their keys by themselves
            key = hashlib.sha256(f"{who.task}/{key}".encode()).hexdigest()
        payload = asked.payload or None
        fact = Fact(body=body, actor=who.identity, cause=asked.cause, key=key, payload=payload)
        reply = await self._ask(fact)
        if isinstance(reply, msgspec.Raw):
            return _DECODER.decode(reply).ask
        return cast("AskChanged", reply).ask

    async def _told(self, who: Speaker, ask_id: AskId, wait_ms: int, asked: Asked) -> Answer:
        """Return a question as it is once it has ended, or the time to wait has."""
        if wait_ms and ask_id in self._view().asks:
            await self._switchboard.until(lambda: ask_id not in self._view().asks, wait_ms)
        ask = await self._stored(ask_id)
        assert ask is not None, "it was there a moment ago"
        mine = ask.task is not None and (ask.task, ask.fence) == (who.task, who.fence)
        if mine and ask.state is not AskState.OPEN:
            assert who.task is not None
            assert who.fence is not None
            body = ask_facts.HearAsk(ask.id, who.task, who.fence)
            await self._ask(Fact(body=body, actor=who.identity, cause=asked.cause))
        return told.AskShown(ask=ask)

    async def _stored(self, ask_id: AskId) -> Ask | None:
        (row,) = await self._store.get([(Table.ASK, ask_id)])
        return row if isinstance(row, Ask) else None

    async def _may_see(self, who: Speaker, ask: Ask) -> bool:
        own = who.address == ask.asker or (who.task is not None and who.task == ask.task)
        may_all = reach(who.identity, Action.ASK_READ) is Reach.ANY
        if ask.project == who.project and (own or may_all):
            return True
        return bool(await self._chosen(who, [ask], mine=False))

    async def _chosen(self, who: Speaker, asks: Sequence[Ask], *, mine: bool) -> Sequence[Ask]:
        """Return those of some questions that one has put, or may answer."""
        near = [ask for ask in asks if ask.project == who.project]
        if mine:
            return [ask for ask in near if ask.asker == who.address]
        rows = await self._store.get([(Table.TASK, ask.task) for ask in near if ask.task])
        whose = {row.id: row.submitter for row in rows if isinstance(row, Task)}
        return [
            ask
            for ask in near
            if asking.may_answer(
                ask, who.address, who.identity, whose.get(ask.task) if ask.task else None
            )
        ]
