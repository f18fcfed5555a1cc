from agent.host.backoff import Backoff


def test_backoff_doubles_up_to_the_longest_wait_and_shortens_by_at_most_half() -> None:
    backoff = Backoff(first_s=1, longest_s=4)
    for full_s in (1, 2, 4, 4):
        assert full_s / 2 <= backoff.next_s() <= full_s


def test_reset_restores_the_first_wait() -> None:
    backoff = Backoff(first_s=1, longest_s=64)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1


def test_two_backoffs_wait_differently() -> None:
    first, second = Backoff(), Backoff()
    assert [first.next_s() for _ in range(4)] != [second.next_s() for _ in range(4)]
