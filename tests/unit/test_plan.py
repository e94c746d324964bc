"""The plan: what it covers, what it keeps apart, and that any part of it can be had alone."""

import pickle
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_service import seeds
from data_service.folds import Fold
from data_service.planning.partners import RULES
from data_service.planning.plan import DataNeeds, Plan, StagePlan
from data_service.planning.synthetic_slots import MOST_REPEATS, most_share
from data_service.schema import Expression

CLASSES = (Expression.ANGER, Expression.FEAR, Expression.HAPPINESS)
ARRAYS = ("rows", "expression", "target_expression", "subject", "key", "synthetic")
MAPS = ("partner_rows", "partner_expression", "partner_valid")
OF_ONE_SUBJECT = ("same_subject", "same_subject_anytime")


def table(num_rows, seed=0, num_subjects=9):
    rng = np.random.default_rng(seed)
    subjects = [f"p{who}" if who else None for who in rng.integers(0, num_subjects, num_rows)]
    expressions = [*CLASSES, *rng.choice(["anger", "fear", "happiness", "neutral"], num_rows)]
    sittings = [f"t{day}" if day else None for day in rng.integers(0, 4, num_rows)]
    return pa.table(
        {
            "sample_id": [f"{row:04d}" for row in range(num_rows)],
            "subject": pa.array(subjects, pa.string()),
            "sitting": pa.array(sittings, pa.string()),
            "expression": pa.array(map(str, expressions[:num_rows]), pa.string()),
        }
    )


def fold_of(num_rows):
    rows = np.arange(num_rows)
    train = rows < num_rows - num_rows // 4
    return Fold(
        index=1,
        num_folds=2,
        train_rows=rows[train],
        validation_rows=rows[~train][::2],
        test_rows=rows[~train][1::2],
    )


def pool_of(num_rows, sources=(0, 1, 2)):
    return pa.table(
        {
            "source_row": pa.array([sources[row % len(sources)] for row in range(num_rows)]),
            "expression": [str(CLASSES[row % 2]) for row in range(num_rows)],
        }
    )


def plan_of(num_rows=60, *, stages=None, batch=8, seed=3, pool=None, **needs):
    stages = stages or [StagePlan(images=400, needs=DataNeeds(**needs))]
    return Plan(table(num_rows), fold_of(num_rows), CLASSES, stages, batch, seed, pool)


def equal(left, right):
    same = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ARRAYS)
    for name in MAPS:
        mine, other = getattr(left, name), getattr(right, name)
        same &= mine.keys() == other.keys()
        same &= all(np.array_equal(mine[key], other[key]) for key in mine)
    return same and (left.stage, left.images_before) == (right.stage, right.images_before)


def all_of(plan, name, steps=None):
    return np.concatenate([getattr(plan.step(k), name) for k in steps or range(plan.num_steps)])


def trainable(plan, num_rows):
    names = {str(one) for one in plan.classes}
    expressions = table(num_rows)["expression"].to_pylist()
    return [row for row in fold_of(num_rows).train_rows if expressions[row] in names]


@settings(max_examples=20, deadline=None)
@given(
    num_rows=st.integers(8, 120),
    batch=st.integers(1, 40),
    seed=st.integers(0, 99),
    balance=st.booleans(),
    share=st.sampled_from([0.0, 0.1, 1 / 3, 0.75, "proportional"]),
)
def test_coverage_and_shares(num_rows, batch, seed, balance, share):
    needs = DataNeeds(balance=balance, synthetic_share=share)
    stages = [StagePlan(images=300, needs=needs)]
    pool = pool_of(7)
    plan = plan_of(num_rows, stages=stages, batch=batch, seed=seed, pool=pool)
    rows, synthetic = all_of(plan, "rows"), all_of(plan, "synthetic")
    assert np.array_equal(rows >= num_rows, synthetic)
    members = trainable(plan, num_rows)
    assert set(rows[~synthetic]) <= set(members)
    exact = (
        Fraction(7, 7 + len(members))
        if share == "proportional"
        else min(Fraction(share).limit_denominator(10**6), most_share(len(members), 7))
    )
    seen = np.arange(1, len(rows) + 1)
    assert np.array_equal(np.cumsum(synthetic), [int(count) * exact // 1 for count in seen])
    if synthetic.any():
        counts = np.bincount(rows[synthetic] - num_rows, minlength=7)
        assert counts.max() - counts.min() <= 1
    if balance:
        draws = np.eye(3, dtype=int)[all_of(plan, "expression")[~synthetic]].cumsum(axis=0)
        assert (draws.max(axis=1) - draws.min(axis=1)).max() <= 1
        return
    for start in range(0, (~synthetic).sum() - len(members) + 1, len(members)):
        assert sorted(rows[~synthetic][start : start + len(members)]) == members


@given(real=st.integers(1, 900), synthetic=st.integers(0, 900))
def test_no_synthetic_face_is_shown_far_more_often_than_real_ones(real, synthetic):
    share = most_share(real, synthetic)
    assert 0 <= share < 1 and (share > 0) == (synthetic > 0)
    if synthetic:
        assert share / synthetic == MOST_REPEATS * (1 - share) / real


def test_an_empty_pool_adds_nothing():
    stages = [StagePlan(images=60, needs=DataNeeds(synthetic_share=0.5))]
    plan = plan_of(stages=stages, pool=pool_of(0))
    assert not all_of(plan, "synthetic").any()


def test_epochs_differ_and_may_end_within_a_batch():
    plan = plan_of(60, batch=8)
    rows, count = all_of(plan, "rows"), len(trainable(plan, 60))
    assert count % 8
    assert list(rows[:count]) != list(rows[count : 2 * count])


def test_without_a_window_an_epoch_is_one_shuffle_of_all_faces():
    """The batches of runs that were made before stay what they were."""
    rows, members = all_of(plan_of(60, seed=3), "rows"), np.array(trainable(plan_of(60), 60))
    for epoch in range(3):
        order = seeds.permutation(3, "stage 0/real", epoch, len(members))
        shown = rows[epoch * len(members) : (epoch + 1) * len(members)]
        assert np.array_equal(shown, members[order])


@pytest.mark.parametrize("balance", [False, True])
def test_no_more_orders_are_kept_than_two_of_each_stream_and_none_travels(balance):
    plan = plan_of(60, balance=balance)
    sent = len(pickle.dumps(plan))
    all_of(plan, "rows")
    kept = plan._draws[0]._orders
    assert len(kept) == (3 if balance else 1)
    assert {len(orders) for orders in kept.values()} == {2}
    assert len(pickle.dumps(plan)) <= sent


THREE = [
    StagePlan(images=50, needs=DataNeeds(partner="same_subject", target="partner")),
    StagePlan(images=64, needs=DataNeeds(balance=True, batch_images=16, target="other_expression")),
    StagePlan(images=40, needs=DataNeeds(partner=RULES, synthetic_share=0.3)),
]


def test_any_step_alone_equals_the_whole_walk():
    walked = plan_of(stages=THREE, pool=pool_of(5))
    steps = [walked.step(k) for k in range(walked.num_steps)]
    for k in (14, 0, 7, 6, 11, 15, 10):
        alone = plan_of(stages=THREE, pool=pool_of(5))
        assert equal(alone.step(k), steps[k])
        assert equal(pickle.loads(pickle.dumps(alone)).step(k), steps[k])


def test_stages_and_steps():
    plan = plan_of(stages=THREE, pool=pool_of(5))
    assert [plan.steps_of(stage) for stage in range(3)] == [range(7), range(7, 11), range(11, 16)]
    assert plan.num_steps == 7 + 4 + 5
    assert [plan.stage_of(k) for k in (0, 6, 7, 10, 11, 15)] == [0, 0, 1, 1, 2, 2]
    assert [plan.step(k).images_before for k in (0, 6, 7, 8, 11)] == [0, 48, 56, 72, 120]
    assert [len(plan.step(k)) for k in (0, 7, 11)] == [8, 16, 8]
    for step in (-1, 16):
        with pytest.raises(ValueError, match="steps 0 to 15"):
            plan.step(step)


def test_keys_are_unique_and_follow_the_seed():
    keys = all_of(plan_of(stages=THREE, pool=pool_of(5)), "key")
    assert keys.dtype == np.uint64 and len(set(keys)) == len(keys)
    other = all_of(plan_of(stages=THREE, pool=pool_of(5), seed=4), "key")
    assert not set(keys) & set(other)


@settings(max_examples=20, deadline=None)
@given(world=st.integers(1, 9), step=st.integers(0, 15))
def test_workers_slice_one_global_batch(world, step):
    whole = plan_of(stages=THREE, pool=pool_of(5)).step(step)
    shards = [whole.shard(rank, world) for rank in range(world)]
    for name in ARRAYS:
        joined = np.concatenate([getattr(shard, name) for shard in shards])
        assert np.array_equal(joined, getattr(whole, name))
    for name in MAPS:
        for key, array in getattr(whole, name).items():
            joined = np.concatenate([getattr(shard, name)[key] for shard in shards])
            assert np.array_equal(joined, array)


def facts(num_rows):
    lake = table(num_rows)
    subjects = [subject or row for row, subject in enumerate(lake["subject"].to_pylist())]
    return subjects, lake["expression"].to_pylist()


@settings(max_examples=30, deadline=None)
@given(num_rows=st.integers(8, 80), seed=st.integers(0, 99), synthetic=st.booleans())
def test_partners_keep_their_rule(num_rows, seed, synthetic):
    needs = DataNeeds(partner=RULES, synthetic_share=0.5 if synthetic else 0.0)
    plan = plan_of(
        num_rows, stages=[StagePlan(images=200, needs=needs)], seed=seed, pool=pool_of(6)
    )
    subjects, expressions = facts(num_rows)
    members = set(trainable(plan, num_rows))
    for k in range(plan.num_steps):
        step = plan.step(k)
        for rule in RULES:
            partners, valid = step.partner_rows[rule], step.partner_valid[rule]
            for slot, (row, partner) in enumerate(zip(step.rows, partners)):
                source = [0, 1, 2][(row - num_rows) % 3] if row >= num_rows else row
                own = str(CLASSES[step.expression[slot]])
                if not valid[slot]:
                    assert no_candidate(rule, row, source, own, members, subjects, expressions)
                    if rule not in OF_ONE_SUBJECT:
                        assert partner == row
                        continue
                    if partner == row:
                        continue
                    assert expressions[partner] != own and subjects[partner] != subjects[source]
                assert partner in members and partner != row
                assert expressions[partner] == str(CLASSES[step.partner_expression[rule][slot]])
                same_subject = subjects[partner] == subjects[source]
                same_class = expressions[partner] == own
                if valid[slot]:
                    assert {
                        "same_subject": same_subject and not same_class,
                        "same_subject_anytime": same_subject and not same_class,
                        "other_subject": not same_subject,
                        "same_class": same_class,
                        "other_class": not same_class,
                    }[rule]
                if rule == "same_subject" and valid[slot]:
                    alike = sittings_alike(source, own, members, num_rows)
                    assert partner in alike or not alike


def sittings_alike(source, own, members, num_rows):
    """The faces of another class in the sitting of a source."""
    subjects, expressions = facts(num_rows)
    sittings = table(num_rows)["sitting"].to_pylist()
    if sittings[source] is None:
        return set()
    place = (subjects[source], sittings[source])
    here = {row for row in members if (subjects[row], sittings[row]) == place}
    return {row for row in here if expressions[row] != own}


def no_candidate(rule, row, source, own, members, subjects, expressions):
    others = [member for member in members if member != row]
    anytime = [
        one for one in others if subjects[one] == subjects[source] and expressions[one] != own
    ]
    return not {
        "same_subject": anytime,
        "same_subject_anytime": anytime,
        "other_subject": [one for one in others if subjects[one] != subjects[source]],
        "same_class": [one for one in others if expressions[one] == own],
        "other_class": [one for one in others if expressions[one] != own],
    }[rule]


def test_partners_of_any_time_come_from_every_sitting():
    """Of many draws, each face of another class that the subject has; of its sitting, some."""
    stages = [StagePlan(images=20000, needs=DataNeeds(partner=OF_ONE_SUBJECT))]
    plan = plan_of(120, stages=stages, batch=500)
    found = {rule: {} for rule in OF_ONE_SUBJECT}
    for k in range(plan.num_steps):
        step = plan.step(k)
        for rule, drawn in found.items():
            valid = step.partner_valid[rule]
            for row, partner in zip(step.rows[valid], step.partner_rows[rule][valid]):
                drawn.setdefault(row, set()).add(partner)
    near, far = (found[rule] for rule in OF_ONE_SUBJECT)
    subjects, expressions = facts(120)
    members = trainable(plan, 120)
    for row, partners in far.items():
        assert near[row] <= partners
        assert partners == {
            one
            for one in members
            if subjects[one] == subjects[row] and expressions[one] != expressions[row]
        }
    assert near.keys() == far.keys() and any(near[row] < far[row] for row in near)


def test_partners_are_drawn_evenly():
    plan = plan_of(40, stages=[StagePlan(images=20000, needs=DataNeeds(partner="other_class"))])
    anger = all_of(plan, "expression") == 0
    partners = np.concatenate(
        [plan.step(k).partner_rows["other_class"] for k in range(plan.num_steps)]
    )[anger]
    allowed = [row for row in trainable(plan, 40) if facts(40)[1][row] != "anger"]
    counts = np.bincount(partners, minlength=40)[allowed]
    assert counts.sum() == len(partners)
    assert counts.min() > 0.8 * counts.mean() and counts.max() < 1.2 * counts.mean()


def test_targets():
    own = plan_of(target="own").step(0)
    assert np.array_equal(own.target_expression, own.expression)
    plan = plan_of(target="other_expression", stages=None)
    targets, classes = all_of(plan, "target_expression"), all_of(plan, "expression")
    assert (targets != classes).all() and set(targets) == {0, 1, 2}
    step = plan_of(target="partner", partner=("same_subject", "other_class")).step(0)
    assert np.array_equal(step.target_expression, step.partner_expression["same_subject"])
    assert (step.target_expression != step.expression).all()


def test_a_stage_with_fewer_classes():
    needs = DataNeeds(classes=(Expression.HAPPINESS, Expression.ANGER), target="other_expression")
    plan = plan_of(stages=[StagePlan(images=200, needs=needs)])
    assert set(all_of(plan, "expression")) == set(all_of(plan, "target_expression")) == {0, 2}


def test_subjects_are_numbered_by_name():
    plan = plan_of()
    names = table(60)["subject"].to_pylist()
    step = plan.step(0)
    found = [plan.subjects[index] if index >= 0 else None for index in step.subject]
    assert found == [names[row] for row in step.rows]


def test_the_pool_must_come_from_training_subjects():
    with pytest.raises(ValueError, match="validates or tests on"):
        plan_of(pool=pool_of(5, sources=(0, 59)))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"partner": "friend"}, "unknown partner rule 'friend'; valid: same_subject"),
        ({"views": ("sideways",)}, "unknown view"),
        ({"fields": ("smell",)}, "unknown field"),
        ({"views": ()}, "at least one view"),
        ({"target": "partner"}, "needs a partner rule"),
        ({"frames": 3}, "only single frames"),
        ({"synthetic_share": 1.0}, "valid: 0 to below 1"),
    ],
)
def test_needs_that_cannot_be(needs, message):
    with pytest.raises(ValueError, match=message):
        DataNeeds(**needs)


def test_plans_that_cannot_be():
    with pytest.raises(ValueError, match="needs surprise, which the run does not have"):
        plan_of(classes=(Expression.SURPRISE,))
    with pytest.raises(ValueError, match="at least two classes"):
        plan_of(classes=(Expression.FEAR,), target="other_expression")
    with pytest.raises(ValueError, match="no sealed pool"):
        plan_of(synthetic_share=0.5).step(0)
    lake = table(60).set_column(3, "expression", [["fear"] * 60])
    stages = [StagePlan(images=9, needs=DataNeeds(balance=True))]
    with pytest.raises(ValueError, match="no training face of anger, happiness"):
        Plan(lake, fold_of(60), CLASSES, stages, 8, 0)


def voted_plan(votes, *, labels="votes", classes=CLASSES, seed=3, **needs):
    """A plan over faces that are all given as anger, with these votes on each."""
    rows = len(votes)
    faces = table(rows).set_column(3, "expression", pa.array(["anger"] * rows))
    counts = pa.array([list(one.items()) for one in votes], pa.map_(pa.string(), pa.float32()))
    train = Fold(
        index=1,
        num_folds=2,
        train_rows=np.arange(rows),
        validation_rows=np.arange(0),
        test_rows=np.arange(0),
    )
    stages = [StagePlan(images=4000, needs=DataNeeds(**needs))]
    faces = faces.append_column("votes", counts)
    return Plan(faces, train, classes, stages, 40, seed, labels=labels)


def classes_by_row(plan):
    found = {}
    for number in range(plan.num_steps):
        step = plan.step(number)
        for row, label in zip(step.rows, step.expression, strict=True):
            found.setdefault(int(row), []).append(int(label))
    return found


def test_voted_classes_come_as_often_as_they_have_votes():
    votes = [{"anger": 2.0, "fear": 6.0, "neutral": 5.0}, {"happiness": 7.0}, {}, {"neutral": 9.0}]
    found = classes_by_row(voted_plan(votes))
    assert {row: len(labels) for row, labels in found.items()} == dict.fromkeys(range(4), 1000)
    share = np.bincount(found[0], minlength=3) / 1000
    # three standard deviations of a share of 1/4 of 1,000
    assert abs(share - [0.25, 0.75, 0.0]).max() < 3 * (0.25 * 0.75 / 1000) ** 0.5
    assert set(found[1]) == {2}  # all votes for happiness
    assert set(found[2]) == {0} == set(found[3])  # no votes for the run's classes: as given


def test_partners_of_voted_classes_are_drawn_alike_and_never_oneself():
    """Of 24 faces the first, given as anger, is shown as fear."""
    faces = table(24, num_subjects=3)
    given = faces["expression"].to_pylist()
    votes = pa.array([[("fear", 9.0)]] + [[]] * 23, pa.map_(pa.string(), pa.float32()))
    rows, none = np.arange(24), np.arange(0)
    fold = Fold(index=1, num_folds=2, train_rows=rows, validation_rows=none, test_rows=none)
    stages = [StagePlan(images=24 * 1500, needs=DataNeeds(partner=RULES))]
    faces = faces.append_column("votes", votes)
    plan = Plan(faces, fold, CLASSES, stages, 24, 5, labels="votes")
    drawn = {rule: [] for rule in RULES}
    for number in range(plan.num_steps):
        step = plan.step(number)
        for at in np.flatnonzero(step.rows == 0):
            assert step.expression[at] == CLASSES.index("fear")
            for rule in RULES:
                drawn[rule].append(int(step.partner_rows[rule][at]))
    subjects = faces["subject"].to_pylist()
    known = [row for row in range(1, 24) if given[row] in map(str, CLASSES)]
    allowed = {
        "same_class": [row for row in known if given[row] == "fear"],
        "other_class": [row for row in known if given[row] != "fear"],
        "other_subject": [
            row for row in known if subjects[row] is None or subjects[row] != subjects[0]
        ],
    }
    for rule, members in allowed.items():
        share = np.bincount(drawn[rule], minlength=24)[members] / len(drawn[rule])
        assert share.sum() == 1.0, rule
        bound = 4 * (share.mean() * (1 - share.mean()) / len(drawn[rule])) ** 0.5
        assert abs(share - share.mean()).max() < bound, rule
    for rule in OF_ONE_SUBJECT:
        assert 0 not in drawn[rule]


def test_voted_classes_change_nothing_else_and_any_step_can_be_had_alone():
    votes = [{"anger": 5.0, "fear": 5.0}] * 12
    voted, given_plan = voted_plan(votes), voted_plan(votes, labels="given")
    alone = voted_plan(votes).step(57)
    assert equal(alone, voted.step(57))
    np.testing.assert_array_equal(alone.rows, given_plan.step(57).rows)
    assert set(given_plan.step(57).expression) == {0} < set(alone.expression)
    np.testing.assert_array_equal(alone.target_expression, alone.expression)
    few = voted_plan(votes, classes=CLASSES[:1])
    assert set(few.step(3).expression) == {0}


def test_without_classes_every_training_face_is_drawn_once_an_epoch():
    faces = table(40).set_column(3, "expression", pa.array([None] * 40, pa.string()))
    plan = Plan(faces, fold_of(40), (), [StagePlan(images=60)], 10, 3)
    steps = [plan.step(number) for number in range(3)]
    assert sorted(np.concatenate([step.rows for step in steps])) == list(range(30))
    assert {int(label) for step in steps for label in step.expression} == {-1}
    for needs in (DataNeeds(balance=True), DataNeeds(partner="other_class")):
        with pytest.raises(ValueError, match="need expressions"):
            Plan(faces, fold_of(40), (), [StagePlan(images=60, needs=needs)], 10, 3)
