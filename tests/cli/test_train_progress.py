"""How long a training run will take, without a terminal too."""

from __future__ import annotations

from kpn_cli.cli.train_progress import TrainingPace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def pace_after(seconds, speed, *, total=10_000, minutes=None, begin=0):
    clock = Clock()
    pace = TrainingPace(total, minutes, clock)
    clock.now += 30  # reading photos
    pace.start(begin)
    lines = []
    for second in range(1, seconds + 1):
        clock.now += 1
        pace.step(begin + speed * second)
        if pace.line_due():
            lines.append((second, pace.line()))
    return pace, lines


def test_a_line_is_due_every_minute():
    _, lines = pace_after(185, 10)
    assert [second for second, _ in lines] == [60, 120, 180]


def test_the_time_left_follows_from_the_pace():
    pace, lines = pace_after(100, 10)
    assert pace.left() == "15 min for all patches"
    line = " ".join(lines[0][1].split())
    assert line == "600 of 10000 patches (6%) 10.0/s left: 16 min for all patches"


def test_a_resumed_run_does_not_count_earlier_patches_as_its_pace():
    pace, _ = pace_after(50, 10, begin=9000)
    assert pace.left() == "50 s for all patches"


def test_the_time_left_by_minutes_begins_with_the_training():
    pace, _ = pace_after(60, 10, minutes=5)
    assert pace.left() == "4 min by --minutes, 16 min for all patches"
    assert pace.left_by_minutes() == "4 min by --minutes"


def test_the_pace_is_that_of_the_last_ten_minutes():
    clock = Clock()
    pace = TrainingPace(1_000_000, None, clock)
    pace.start(0)
    patches = 0
    for second in range(3000):
        clock.now += 1
        patches += 100 if second < 2000 else 10
        pace.step(patches)
    assert f"{pace.line().split()[5]}" == "10.0/s"


def test_before_the_first_patches_there_is_nothing_to_tell():
    pace = TrainingPace(100, None, Clock())
    assert pace.left() == ""
    pace.start(0)
    assert pace.left() == ""


def test_an_early_end_is_told_and_the_full_length_is_not():
    assert "at 500 of 10000 patches" in pace_after(50, 10)[0].stopped()
    assert pace_after(10, 1000)[0].stopped() == ""
