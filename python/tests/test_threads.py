"""Threads run while arrays are computed, arrays cross threads, and Ctrl-C ends an evaluation."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import lazul.core as mx


def test_other_threads_run_meanwhile():
    x = mx.random.normal((600, 600))
    mx.eval(x)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    y = x
    for _ in range(20):
        y = mx.sort(y @ x, axis=0) * 0.01
    mx.eval(y)
    end = time.perf_counter()
    stop.set()
    thread.join()
    assert len([t for t in ticks if start < t < end]) > 2


def test_arrays_cross_threads():
    results = [None] * 8

    def work(i, x):
        f = mx.compile(lambda v: (v * v).sum())
        results[i] = (f(x).item(), mx.grad(lambda v: (v * v).sum())(x).tolist())

    xs = [mx.arange(4.0) * i for i in range(8)]
    threads = [threading.Thread(target=work, args=(i, x)) for i, x in enumerate(xs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [(14.0 * i * i, [0.0, 2.0 * i, 4.0 * i, 6.0 * i]) for i in range(8)]


def test_one_handle_in_many_threads():
    x = mx.zeros(4)

    def work():
        for _ in range(50):
            x.__iadd__(0)
            x.tolist()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert x.tolist() == [0.0] * 4


def test_ctrl_c_ends_an_evaluation():
    program = textwrap.dedent(
        """
        import lazul.core as mx
        x = mx.random.normal((400, 400))
        mx.eval(x)
        y = x
        for _ in range(5000):
            y = mx.sort(y @ x, axis=0) * 0.01
        print("go", flush=True)
        try:
            mx.eval(y)
            print("done")
        except KeyboardInterrupt:
            print("interrupted", mx.array(2.0).item())
        """
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "go\n"
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, _ = child.communicate(timeout=60)
    assert out == "interrupted 2.0\n" and time.monotonic() - started < 30


def test_waiting_for_another_evaluation_does_not_hold_the_lock(tmp_path):
    """An evaluation looks for signals, which needs the interpreter: who waited for it with the interpreter held
    waited forever."""
    program = textwrap.dedent(
        """
        import sys, threading
        import lazul.core as mx

        x = mx.random.normal((300, 300))
        mx.eval(x)

        def slow():
            y = x
            for _ in range(30):
                y = mx.sort(y @ x, axis=0) * 0.01
            return y

        def compiled(y):
            mx.eval(mx.compile(lambda v: v.reshape(-1)[mx.array([0])] + y[0, 0])(x))

        def exported(y):
            mx.export_function(sys.argv[1] + "/f", lambda v: v + y, x)

        def exporter(y):
            with mx.exporter(sys.argv[1] + "/g", lambda v: v + y) as e:
                e(x)

        def dot(y):
            mx.export_to_dot(sys.argv[1] + "/h", y + 1)

        def gguf(y):
            mx.save_gguf(sys.argv[1] + "/i.gguf", {"x": x}, {"y": y[0, 0]})

        def item(y):
            mx.random.normal((2,))
            y[0, 0].item()

        for use in (compiled, exported, exporter, dot, gguf, item):
            y = slow()
            first = threading.Thread(target=mx.eval, args=(y,))
            first.start()
            use(y)
            first.join()
        print("done")
        """
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    child = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert child.stdout == "done\n", child.stderr
