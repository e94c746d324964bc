"""What holds of every plan: any lake, any fold, any stages, any seed."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_service.folds import Fold, make_folds, subject_keys
from data_service.lakes.window import Window
from data_service.planning.partners import RULES
from data_service.planning.plan import DataNeeds, Plan, StagePlan, StepPlan
from data_service.schema import Expression

CLASSES = (Expression.ANGER, Expression.FEAR, Expression.HAPPINESS)
WORLDS = (1, 2, 3, 8)
EXAMPLES = 15


@st.composite
def lakes(draw):
    """A lake's table in which every class has known subjects, and some faces have none."""
    count = draw(st.integers(24, 90))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    subjects = [f"p{who}" if who else None for who in rng.integers(0, 12, count)]
    expressions = [*CLASSES * 4, *rng.choice([*CLASSES, Expression.NEUTRAL], count - 12)]
    return pa.table(
        {
            "sample_id": [f"{row:04d}" for row in range(count)],
            "subject": pa.array([*(f"q{row}" for row in range(12)), *subjects[12:]], pa.string()),
            "sitting": pa.array([f"t{day}" for day in rng.integers(0, 3, count)], pa.string()),
            "expression": pa.array(map(str, expressions), pa.string()),
        }
    )


needs = st.builds(
    DataNeeds,
    partner=st.sampled_from(["none", *RULES, RULES]),
    balance=st.booleans(),
    batch_images=st.sampled_from([None, 5, 24]),
    target=st.sampled_from(["own", "other_expression"]),
    synthetic_share=st.sampled_from([0.0, 0.25, "proportional"]),
)
stages = st.lists(
    st.builds(StagePlan, images=st.integers(1, 60), needs=needs), min_size=1, max_size=4
)


@st.composite
def plans(draw):
    """How to make one and the same plan again and again, and what it is made from."""
    table, seed = draw(lakes()), draw(st.integers(0, 99))
    fold = draw(st.sampled_from(make_folds(table, 3, seed=seed, classes=CLASSES)))
    sources = np.resize(fold.train_rows, 9)
    pool = pa.table(
        {"source_row": sources, "expression": [str(CLASSES[row % 3]) for row in range(9)]}
    )
    chosen, batch = draw(stages), draw(st.integers(1, 16))
    window = draw(
        st.sampled_from(
            [
                None,
                Window(faces=1, chunk=1, face_bytes=1 << 16),
                Window(faces=11, chunk=4, face_bytes=1 << 16),
            ]
        )
    )

    def make() -> Plan:
        return Plan(table, fold, CLASSES, chosen, batch, seed, pool, window=window)

    return make, table, fold, pool


def content(step: StepPlan) -> dict[str, list]:
    """All that a step says, as plain lists."""
    values = {"stage": step.stage, "images_before": step.images_before}
    for name in ("rows", "expression", "target_expression", "subject", "key", "synthetic"):
        values[name] = getattr(step, name).tolist()
    for name in ("partner_rows", "partner_expression", "partner_valid"):
        for rule, array in getattr(step, name).items():
            values[f"{name}/{rule}"] = array.tolist()
    return values


@settings(max_examples=EXAMPLES)
@given(made=plans(), order=st.randoms(use_true_random=False))
def test_a_step_needs_none_of_those_before(made, order):
    make = made[0]
    walked = make()
    expected = [content(walked.step(k)) for k in range(walked.num_steps)]
    borders = {walked.steps_of(stage).start for stage in range(len(walked.stages))}
    some = {*borders, *(border - 1 for border in borders if border), walked.num_steps - 1}
    some |= set(order.sample(range(walked.num_steps), min(3, walked.num_steps)))
    for k in order.sample(sorted(some), len(some)):
        assert content(make().step(k)) == expected[k]


@settings(max_examples=EXAMPLES)
@given(made=plans())
def test_workers_of_any_number_share_one_global_batch(made):
    plan = made[0]()
    for k in range(0, plan.num_steps, max(1, plan.num_steps // 4)):
        whole = content(plan.step(k))
        for world in WORLDS:
            shards = [content(plan.step(k).shard(rank, world)) for rank in range(world)]
            for name, values in whole.items():
                if isinstance(values, list):
                    assert [one for shard in shards for one in shard[name]] == values
            sizes = [len(shard["rows"]) for shard in shards]
            assert max(sizes) - min(sizes) <= 1


@settings(max_examples=EXAMPLES)
@given(made=plans())
def test_no_step_sees_a_subject_that_validates_or_tests(made):
    make, table, fold, pool = made
    plan, subjects = make(), subject_keys(table)
    held = {*subjects[fold.validation_rows], *subjects[fold.test_rows]}
    assert held and not held & set(subjects[fold.train_rows])
    sources = pool["source_row"].to_numpy()
    for k in range(plan.num_steps):
        step = plan.step(k)
        rows = np.concatenate([step.rows, *step.partner_rows.values()])
        made_of = np.where(
            rows >= table.num_rows, sources[np.maximum(rows - table.num_rows, 0)], rows
        )
        assert not held & set(subjects[made_of])
        assert not held & {plan.subjects[one] for one in step.subject if one >= 0}


@settings(max_examples=EXAMPLES)
@given(made=plans())
def test_epochs_are_whole_in_every_stage(made):
    make, table, fold, _ = made
    plan = make()
    labels = table["expression"].to_pylist()
    members = {str(one): [] for one in CLASSES}
    for row in fold.train_rows.tolist():
        members[labels[row]].append(row)
    for index, stage in enumerate(plan.stages):
        steps = [plan.step(k) for k in plan.steps_of(index)]
        rows = np.concatenate([step.rows[~step.synthetic] for step in steps]).tolist()
        if stage.needs.balance:
            for name, own in members.items():
                assert in_epochs([row for row in rows if labels[row] == name], own)
            for start in range(0, len(rows) - 2, 3):
                assert {labels[row] for row in rows[start : start + 3]} == set(members)
        else:
            assert in_epochs(rows, sorted(fold.train_rows.tolist()))


def in_epochs(drawn: list[int], members: list[int]) -> bool:
    """Whether every stretch of one draw for each member has each once, and the rest none twice."""
    size = len(members)
    starts = range(0, len(drawn), size)
    parts = [drawn[start : start + size] for start in starts]
    return all(
        set(part) <= set(members) and max(Counter(part).values()) == 1 for part in parts
    ) and all(sorted(part) == members for part in parts[:-1])


def windowed(count, rows, window, *, seed=0, batch=None, pool=None, **needs):
    """A plan over two epochs of those rows of a lake."""
    table = pa.table(
        {
            "sample_id": [f"{row:04d}" for row in range(count)],
            "subject": pa.nulls(count, pa.string()),
            "sitting": pa.nulls(count, pa.string()),
            "expression": ["fear"] * count,
        }
    )
    none = np.arange(0)
    fold = Fold(index=1, num_folds=2, train_rows=rows, validation_rows=none, test_rows=none)
    stage = StagePlan(images=2 * len(rows), needs=DataNeeds(**needs))
    classes, batch = (Expression.FEAR,), batch or len(rows)
    return Plan(table, fold, classes, [stage], batch, seed, pool, window=window)


@settings(max_examples=EXAMPLES)
@given(
    count=st.integers(1, 400),
    faces=st.integers(1, 150),
    chunk=st.integers(1, 30),
    seed=st.integers(0, 99),
    held_out=st.booleans(),
)
def test_a_window_slides_over_the_chunks_of_a_lake(count, faces, chunk, seed, held_out):
    rows = np.arange(count)
    rows = rows[rows // 4 % 3 < 2] if held_out else rows
    plan = windowed(count, rows, Window(faces=faces, chunk=chunk, face_bytes=1 << 16), seed=seed)
    sizes = np.bincount(rows // chunk)
    for step in (0, 1):
        order = plan.step(step).rows
        assert sorted(order) == list(rows)
        first = {row // chunk: place for place, row in reversed(list(enumerate(order)))}
        last = {row // chunk: place for place, row in enumerate(order)}
        # of a chunk of the file that came in its turn, every face comes within window and chunk
        assert all(last[one] - place < 2 * faces + chunk for one, place in first.items())
        held = np.zeros(len(rows) + 1)
        for one, place in first.items():
            held[place] += sizes[one]
            held[last[one] + 1] -= sizes[one]
        assert held.cumsum().max() <= 2 * faces + 3 * chunk
    if min(len(rows), faces) > 99 and chunk > 1:
        assert (plan.step(0).rows != plan.step(1).rows).mean() > 0.5


@settings(max_examples=EXAMPLES)
@given(
    faces=st.integers(1, 150),
    chunk=st.integers(1, 30),
    batch=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_every_face_was_read_before_it_is_shown_and_hardly_ever_twice(faces, chunk, batch, seed):
    rows = np.arange(400)
    rows = rows[rows // 4 % 3 < 2]
    plan = windowed(
        400, rows, Window(faces=faces, chunk=chunk, face_bytes=1 << 16), seed=seed, batch=batch
    )
    pieces, times = plan.pieces(0), np.zeros(400, int)
    for step in range(len(rows) // batch):
        shown = plan.step(step).rows
        for first, end in pieces.entering(step, shown):
            times[first:end] += 1
        assert times[shown].all()
    assert times.max() <= 2 and set(np.flatnonzero(times)) <= set(rows)


def test_what_is_read_of_a_lake_in_windows_is_read_once_an_epoch():
    """Subjects that are held out, and the lake's chunks, lie across each other."""
    rows = np.arange(4000)
    rows = rows[rows // 20 % 3 < 2]
    plan = windowed(4000, rows, Window(faces=400, chunk=37, face_bytes=1 << 16), batch=20)
    pieces, times = plan.pieces(0), np.zeros(4000, int)
    for step in range(len(rows) // 20):
        for first, end in pieces.entering(step, plan.step(step).rows):
            times[first:end] += 1
    assert (times[rows] == 1).all() and times.sum() == len(rows)


def test_beside_synthetic_faces_a_piece_is_held_as_much_longer():
    """A step shows fewer faces of the lake, and the window passes a piece later."""
    rows, there, read = np.arange(4000), np.zeros(4000, bool), 0
    pool = pa.table({"source_row": rows, "expression": ["fear"] * 4000})
    window = Window(faces=400, chunk=5, face_bytes=1 << 16)
    plan = windowed(4000, rows, window, batch=20, pool=pool, synthetic_share=0.5)
    pieces = plan.pieces(0)
    for step in range(plan.num_steps):
        drawn = plan.step(step)
        for first, end in pieces.entering(step, drawn.rows[~drawn.synthetic]):
            read += np.count_nonzero(~there[first:end])
            there[first:end] = True
        for first, end in pieces.leaving(step):
            there[first:end] = False
    assert read == 4000 and there.sum() < 900


def test_classes_that_are_balanced_have_no_window():
    rows, window = np.arange(300), Window(faces=20, chunk=5, face_bytes=1 << 16)
    balanced, whole = (windowed(300, rows, one, balance=True) for one in (window, None))
    assert balanced.pieces(0) is None is whole.pieces(0)
    assert np.array_equal(balanced.step(0).rows, whole.step(0).rows)
    assert not np.array_equal(windowed(300, rows, window).step(0).rows, whole.step(0).rows)


@settings(max_examples=EXAMPLES)
@given(made=plans(), other=st.integers(100, 199))
def test_another_seed_is_another_plan_with_the_same_shares(made, other):
    make, table, fold, pool = made
    plan = make()
    batches = [plan.batch_images(stage) for stage in range(len(plan.stages))]
    again = Plan(table, fold, CLASSES, plan.stages, batches[0], other, pool)
    mine = np.concatenate([plan.step(k).key for k in range(plan.num_steps)])
    theirs = np.concatenate([again.step(k).key for k in range(again.num_steps)])
    assert len(set(mine.tolist())) == len(mine) and not set(mine.tolist()) & set(theirs.tolist())
    for k in plan.steps_of(0):
        assert plan.step(k).synthetic.tolist() == again.step(k).synthetic.tolist()


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=EXAMPLES)
@given(table=lakes(), seed=st.integers(0, 99))
def test_a_lake_of_one_subject_and_class_has_partners_by_no_rule_but_its_class(rule, table, seed):
    alone = table.set_column(1, "subject", [["p"] * table.num_rows])
    alone = alone.set_column(3, "expression", [["fear"] * table.num_rows])
    rows = np.arange(table.num_rows)
    fold = make_folds(table, 2)[0]
    fold = type(fold)(
        index=1, num_folds=2, train_rows=rows, validation_rows=rows[:0], test_rows=rows[:0]
    )
    stage = StagePlan(images=20, needs=DataNeeds(partner=rule))
    step = Plan(alone, fold, (Expression.FEAR,), [stage], 20, seed).step(0)
    assert step.partner_valid[rule].all() == (rule == "same_class")
    if rule != "same_class":
        assert np.array_equal(step.partner_rows[rule], step.rows)


@settings(max_examples=EXAMPLES)
@given(table=lakes(), seed=st.integers(0, 99))
def test_voted_labels_follow_the_votes_and_nothing_else_changes(table, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (table.num_rows, len(CLASSES))) * rng.integers(
        0, 2, (table.num_rows, 1)
    )
    votes = [list(zip(map(str, CLASSES), map(float, row), strict=True)) for row in counts]
    lake = table.append_column("votes", pa.array(votes, pa.map_(pa.string(), pa.float32())))
    fold = make_folds(table, 2, classes=CLASSES)[0]
    images = 40 * len(fold.train_rows)

    def plan(labels) -> Plan:
        stage = StagePlan(images=images, needs=DataNeeds(partner="other_subject"))
        return Plan(lake, fold, CLASSES, [stage], images, seed, labels=labels)

    own, voted = plan("given").step(0), plan("votes").step(0)
    assert np.array_equal(own.rows, voted.rows)
    for row in fold.train_rows:
        drawn = np.bincount(voted.expression[voted.rows == row], minlength=len(CLASSES))
        total = counts[row].sum()
        if not total:
            assert drawn.argmax() == own.expression[own.rows == row][0] and (drawn > 0).sum() == 1
            continue
        assert not drawn[counts[row] == 0].any()
        # forty draws of each: six standard deviations
        expected, share = 40 * counts[row] / total, counts[row] / total
        assert (np.abs(drawn - expected) <= 6 * np.sqrt(40 * share * (1 - share)) + 1e-9).all()
