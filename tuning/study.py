"""The ledger of a search: one Optuna study in a database, with one writer.

A database and not Optuna's journal file: there is exactly one writer, so nothing is gained by a log
for many; a transaction is never half-written by a kill; and other tools read it while it grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from tuning.databases import (
    GOES_ON,
    Where,
    close_storage,
    open_storage,
    shown,
    store_errors_told,
)
from tuning.objectives import SPEED
from tuning.plan import Plan, check_same
from tuning.proposals import propose, suggest, wanted_paths
from tuning.pruning import ends_below, is_dominated, lags_behind, loses_on_folds
from tuning.results import FINAL, FoldRecord, State, TrialRecord
from tuning.stored import folds_json, latest_of, record_of

MAX_DEATHS = 2
"""How many processes may end while they train one setting before it is given up."""


class Study:
    """Hands out settings, keeps what came of them, decides what is given up early.

    A setting is known by its number. Optuna has one trial per attempt: an attempt whose process
    ended is told FAIL and its setting is queued again with the folds that it had finished.
    """

    def __init__(self, where: Where, plan: Plan, *, trials: int) -> None:
        """Open the study, or begin it.

        ValueError: the file is no study or is locked, the database is gone, or the study was made
        by another search (it says in what).
        """
        self._where = where
        self.plan = plan
        self.trials = trials
        self.error: str | None = None
        self._stopping = False
        self._records: dict[int, TrialRecord] = {}
        self._running: dict[int, Trial] = {}
        self._slots: dict[int, set[int]] = {}
        self._narrowed: dict[int, int] = {}
        with store_errors_told(where):
            self._storage = open_storage(where)
            self._study = optuna.create_study(
                study_name=plan.name,
                storage=self._storage,
                sampler=RandomSampler(seed=plan.seed),
                directions=[item.direction for item in plan.objectives],
                load_if_exists=True,
            )
            self._begin()

    def _begin(self) -> None:
        attributes, found = self._study.user_attrs, self._study.get_trials(deepcopy=False)
        if "identity" not in attributes:
            if found:
                raise ValueError(
                    f"{shown(self._where)} holds a study '{self.plan.name}' that mien did not make"
                )
            self._study.set_user_attr("generation_size", self.plan.generation_size)
            self._study.set_user_attr("identity", self.plan.identity())
            return
        check_same(self.plan, attributes["identity"])
        self.plan = replace(self.plan, generation_size=attributes["generation_size"])
        latest = latest_of(found)
        self._records = {number: record_of(trial) for number, trial in latest.items()}
        for ghost in (trial for trial in found if trial.state == TrialState.RUNNING):
            number = ghost.user_attrs["number"]
            if latest[number] is ghost:
                self._enqueue(self._records[number])
            self._study.tell(ghost.number, state=TrialState.FAIL)

    def close(self) -> None:
        """Let go of the file, or of the connections."""
        close_storage(self._storage)

    def kept(self, name: str) -> Any:
        """What was kept with the study under a name; None where nothing was."""
        with store_errors_told(self._where, GOES_ON):
            return self._study.user_attrs.get(name)

    def keep(self, name: str, value: Any) -> None:
        """Keep a JSON value with the study."""
        with store_errors_told(self._where, GOES_ON):
            self._study.set_user_attr(name, value)

    def records(self) -> tuple[TrialRecord, ...]:
        """Every setting so far, in order."""
        return tuple(self._records[number] for number in sorted(self._records))

    def is_finished(self) -> bool:
        """Whether as many settings as were asked for have an end."""
        asked = [one for number, one in self._records.items() if number < self.trials]
        return len(asked) == self.trials and all(one.state in FINAL for one in asked)

    def pull(self, slot: int) -> TrialRecord | Literal["wait"] | None:
        """The next setting for a slot; "wait" until others have ended; None when all is done.

        One that its earlier attempt had shown to be worse is given back with its end: PRUNED.
        """
        training = self._slots.setdefault(slot, set())
        if self._stopping:
            return None
        if len(training) >= self._narrowed.get(slot, len(training) + 1):
            return "wait"
        self._extend()
        if not any(record.state == "WAITING" for record in self._records.values()):
            return None if self.is_finished() else "wait"
        number = self._start()
        if self._lags(number) or self._loses(number):
            return self.finish(number, "PRUNED")
        training.add(number)
        return self._records[number]

    def _extend(self) -> None:
        """Queue the next generation once every trial that bears on it has an end."""
        begun = len(self._records)
        earlier, first = self._earlier(begun), self._first(begun)
        if begun >= self.trials or any(record.state not in FINAL for record in earlier):
            return
        if self.plan.asynchronous and any(r.state == "WAITING" for r in self._records.values()):
            return
        settings = propose(self.plan, earlier, self._open_ones(begun), first=first)
        if first == 0:
            settings[0] = self._own()
        for number in range(begun, min(first + len(settings), self.trials)):
            record = TrialRecord(number=number, params=settings[number - first])
            self._enqueue(self._taken_over(record, earlier))

    def _taken_over(self, record: TrialRecord, earlier: Sequence[TrialRecord]) -> TrialRecord:
        """With the folds of the first complete trial of equal settings, if one is among `earlier`.

        Not where speed is an objective: it is measured, and another measurement tells more.
        """
        if any(item.name == SPEED for item in self.plan.objectives):
            return record
        equal = [one for one in earlier if (one.state, one.params) == ("COMPLETE", record.params)]
        if not equal:
            return record
        folds = {index: replace(fold, seconds=0.0) for index, fold in equal[0].folds.items()}
        return replace(record, folds=folds, same_as=equal[0].number)

    def _own(self) -> dict[str, Any]:
        """The run's own setting, as far as the search has it."""
        own = dict(self.plan.own)
        return {path: own[path] for path in own if path in wanted_paths(self.plan, own)}

    def _first(self, number: int) -> int:
        """The first trial of the generation of `number`."""
        size = 1 if self.plan.asynchronous else self.plan.generation_size
        return number // size * size

    def _earlier(self, number: int) -> list[TrialRecord]:
        """All trials that may bear on that of `number`; of an asynchronous search, all that have an
        end."""
        if self.plan.asynchronous:
            return [record for record in self.records() if record.state in FINAL]
        return [self._records[index] for index in range(self._first_unknown(number))]

    def _open_ones(self, number: int) -> list[Mapping[str, Any]]:
        """The settings before that of `number` whose results its generation does not know."""
        if self.plan.asynchronous:
            return [record.params for record in self.records() if record.state not in FINAL]
        unknown = range(self._first_unknown(number), self._first(number))
        return [self._records[index].params for index in unknown]

    def _first_unknown(self, number: int) -> int:
        """The first trial of which the generation of `number` knows no result.

        It knows those of all generations before it but the last, which may still be trained while
        its own begins: no slot waits for the slowest trial of a generation. One trial at a time
        waits for nobody, and knows all.
        """
        size = self.plan.generation_size
        return max(0, self._first(number) - (size if size > 1 else 0))

    def _enqueue(self, record: TrialRecord) -> None:
        record = replace(record, state="WAITING")
        attributes = {
            "number": record.number,
            "params": dict(record.params),
            "folds": folds_json(record),
            "run_id": record.run_id,
            "deaths": record.deaths,
            "same_as": record.same_as,
        }
        self._study.enqueue_trial(dict(record.params), user_attrs=attributes)
        self._records[record.number] = record

    def _start(self) -> int:
        trial = self._study.ask()
        while self._records[number := trial.user_attrs["number"]].state != "WAITING":
            self._study.tell(trial, state=TrialState.FAIL)  # it was queued twice: `latest_of`
            trial = self._study.ask()
        record = self._records[number]
        for path in record.params:
            suggest(trial, path, self.plan.distributions[path])
        self._running[number] = trial
        self._records[number] = replace(record, state="RUNNING")
        return number

    def set_trial_run(self, number: int, run_id: str) -> None:
        """Remember the MLflow run of a trial, so that its next attempt goes on in it."""
        self._running[number].set_user_attr("run_id", run_id)
        self._records[number] = replace(self._records[number], run_id=run_id)

    def observe(self, number: int, fold: int, images: int, value: float) -> bool:
        """Take in a point of a learning curve (first objective); True: give the trial up."""
        record = self._records[number]
        past = record.folds.get(fold, FoldRecord())
        if (images, value) not in past.curve:
            past = replace(past, curve=(*past.curve, (images, value)))
            self._keep(record.with_fold(fold, past))
            if self._single and self.plan.num_folds == 1:
                self._running[number].report(value, step=images)
        return self._lags(number)

    def _keep(self, record: TrialRecord) -> None:
        self._records[record.number] = record
        self._running[record.number].set_user_attr("folds", folds_json(record))

    def end_fold(self, number: int, fold: int, done: FoldRecord) -> bool:
        """Take in a training's end; with values it is never repeated. True: give the trial up.

        The curve is the one that was observed.
        """
        record = self._records[number]
        values = done.values
        curve = record.folds.get(fold, FoldRecord()).curve
        self._keep(record.with_fold(fold, replace(done, curve=curve)))
        if values and self._single and self.plan.num_folds > 1:
            self._running[number].report(values[self.plan.objectives[0].name], step=fold)
        return self._loses(number)

    @property
    def _single(self) -> bool:
        """With several objectives there is no order to draw a curve by."""
        return len(self.plan.objectives) == 1

    def _lags(self, number: int) -> bool:
        """By the learning curve of the only fold, which is being trained."""
        record = self._records[number]
        if not self._single or self.plan.num_folds > 1 or record.finished_folds:
            return False
        return ends_below(record, self._earlier(number), self.plan.objectives[0])

    def _loses(self, number: int) -> bool:
        """By the folds that are finished, where others are still to be trained."""
        record = self._records[number]
        if not 0 < len(record.finished_folds) < self.plan.num_folds:
            return False
        earlier, objectives = self._earlier(number), self.plan.objectives
        if not self._single:
            return is_dominated(record, earlier, objectives)
        return loses_on_folds(record, earlier, objectives[0], self.plan.num_folds) or lags_behind(
            record, earlier, objectives[0]
        )

    def finish(self, number: int, state: State, error: str | None = None) -> TrialRecord:
        """The end of a trial: COMPLETE, PRUNED, or FAIL with its reason."""
        record = replace(self._records[number], state=state, error=error)
        trial = self._ended(number)
        if error:
            trial.set_user_attr("error", error)
        complete = state == "COMPLETE"
        told = [record.values[item.name] for item in self.plan.objectives] if complete else None
        self._study.tell(trial, told, state=TrialState[state])
        self._records[number] = record
        return record

    def release(self, slot: int) -> tuple[TrialRecord, ...]:
        """A slot's process has ended: its setting is queued again, or given up the second time.

        Where it trained several, nobody knows by whose fault: from then on it trains one. Returns
        what was given up.
        """
        numbers = sorted(self._slots.get(slot, ()))
        if len(numbers) > 1:
            self._narrowed[slot] = 1
        alone = len(numbers) == 1
        ended = [self._died(number, "its process ended", alone=alone) for number in numbers]
        return tuple(record for record in ended if record is not None)

    def ran_out_of_memory(self, number: int) -> TrialRecord | None:
        """A training did: the setting is queued again; given up, and returned, the second time.

        Where the slot trained others beside it, it trains one fewer from then on.
        """
        slot = next(slot for slot, numbers in self._slots.items() if number in numbers)
        others = len(self._slots[slot]) - 1
        if others:
            self._narrowed[slot] = others
        return self._died(number, "ran out of memory", alone=not others)

    def _died(self, number: int, how: str, *, alone: bool) -> TrialRecord | None:
        """Queued again; counted where nothing else was trained beside it."""
        record = self._records[number]
        record = self._records[number] = replace(record, deaths=record.deaths + alone)
        if record.deaths >= MAX_DEATHS:
            return self.finish(number, "FAIL", f"{how} {record.deaths} times")
        self._retry(record)
        return None

    def give_back(self, number: int, error: str | None = None) -> None:
        """A trial that was stopped is queued again; an `error` ends the search."""
        self.error = self.error or error
        self._stopping = self._stopping or error is not None
        self._retry(self._records[number])

    def stop(self) -> None:
        """Hand out nothing more; the slots ask `is_stopping` and stop what they train."""
        self._stopping = True

    def is_stopping(self) -> bool:
        """Whether the slots are to stop."""
        return self._stopping

    def failure(self) -> str | None:
        """The error that ended the search."""
        return self.error

    def _retry(self, record: TrialRecord) -> None:
        """Queue before telling: a kill between the two leaves a ghost and loses no setting."""
        self._enqueue(record)
        self._study.tell(self._ended(record.number), state=TrialState.FAIL)

    def _ended(self, number: int) -> Trial:
        """The attempt, no longer under way."""
        for training in self._slots.values():
            training.discard(number)
        return self._running.pop(number)
