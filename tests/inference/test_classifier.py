import signal
import time
from concurrent.futures import Future
from threading import Thread, Timer, get_ident

import pytest

from avser.inference.classifier import wait_for


def test_a_wait_ends_where_another_thread_took_the_interrupt() -> None:
    answer: Future[str] = Future()

    def interrupted() -> None:
        time.sleep(0.2)
        signal.pthread_kill(get_ident(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    late = Timer(20, answer.set_result, ["too late"])
    late.start()
    Thread(target=interrupted).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_for(answer)
    finally:
        late.cancel()
        signal.signal(signal.SIGINT, before)
    answer.set_result("there")
    assert wait_for(answer) == "there"
