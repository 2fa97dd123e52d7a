"""One core for one decode stream: a real server has torch compute on one thread, though nobody tells it to."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import torch

from backline.models.hafm.load import tiny_random
from backline.nn import threads
from backline.packs.pack import write_pack
from backline_client import Client
from tests.support.wire import noise


def test_torch_is_pinned_in_a_server_that_no_variable_tells_to(tmp_path: Path) -> None:
    write_pack(tmp_path / "tiny", *tiny_random())
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    command = [sys.executable, "-m", "backline.cli.main", "serve", "--address", "127.0.0.1:0", "--socket", "none"]
    command += ["--device", "cpu", "--packs", str(tmp_path), "--load", "tiny"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("listening on ").strip()
            with Client(address) as client:
                assert client.stats().torch_threads == 1
                client.render("tiny", noise(1, 4_800), 48_000, chunk_seconds=0.2)
                assert client.stats().torch_threads == 1
        finally:
            process.terminate()


def test_every_thread_of_the_process_is_pinned() -> None:
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(4)
    try:
        threads.use_one()
        threads.use_one()  # twice does no harm
        for _ in range(2):
            thread = threading.Thread(target=lambda: found.append((threads.count(), torch.get_num_threads())))
            thread.start()
            thread.join()
        assert found == [(1, 1), (1, 1)]
    finally:
        torch.set_num_threads(before)


def test_a_process_without_torch_has_no_threads_of_it() -> None:
    program = "from backline.nn import threads; print(threads.count())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "0\n"
