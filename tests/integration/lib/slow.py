# SPDX-License-Identifier: GPL-2.0-or-later
"""Layers that are slow (slow.c), clients that keep a mount busy meanwhile, and how long others wait."""
import os
import pickle
import signal
import subprocess
import time

from . import kernel as k
from .registry import Fail, Skip

HERE = os.path.dirname(os.path.realpath(__file__))
PIECE = 1 << 17
PAUSE = 0.002


class Slow:
    """@src at self.at, read-only, each read @ms late."""

    def __init__(self, t, src, ms, name='slow'):
        self.t, self.at = t, '%s/%s-at' % (t.dir, name)
        program = t.dir + '/' + name
        t.need('gcc', 'pkg-config')
        flags = subprocess.run(['pkg-config', '--cflags', '--libs', 'fuse3'], stdout=subprocess.PIPE, text=True)
        if flags.returncode:
            raise Skip('no headers of libfuse')
        t.run('gcc', '-O2', '-o', program, HERE + '/slow.c', *flags.stdout.split(), '-pthread')
        os.makedirs(self.at)
        self.proc = subprocess.Popen([program, src, self.at, str(ms)])
        end = time.monotonic() + 10 * t.slow
        while not k.mounted_at(self.at):
            if self.proc.poll() is not None or time.monotonic() > end:
                raise Skip('the slow layer cannot be mounted')
            time.sleep(0.01)

    def stop(self):
        """From now on it answers nobody."""
        self.proc.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.proc.pid, os.WSTOPPED)     # all its threads

    def go_on(self):
        self.proc.send_signal(signal.SIGCONT)

    def close(self):
        self.go_on()
        detach(self.t, self.at)
        try:
            self.proc.wait(2)
        except subprocess.TimeoutExpired:       # something still has it in use
            self.proc.kill()
            self.proc.wait()


def detach(t, at):
    """umount -l, also of a FUSE mount of a plain user."""
    if t.identity == 'user':
        t.run('fusermount3', '-u', '-z', at)
    else:
        k.umount(at, k.MNT_DETACH)


class Clients:
    """Processes, each running fn(*args) until it returns or all are ended."""

    def __init__(self):
        self.all = []

    def start(self, fn, *args):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                with os.fdopen(w, 'wb') as f:
                    pickle.dump(fn(*args), f)
                status = 0
            finally:
                os._exit(status)
        os.close(w)
        self.all.append((pid, r))

    def running(self):
        """How many."""
        return sum(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for pid, _ in self.all)

    def end(self, kill=False):
        """What each returned; None of one that was killed."""
        out = []
        for pid, r in self.all:
            if kill:
                os.kill(pid, signal.SIGKILL)
            with os.fdopen(r, 'rb') as f:
                data = f.read()
            status = os.waitpid(pid, 0)[1]
            if not kill and status:
                raise Fail('a client ended with status %d' % status)
            out.append(pickle.loads(data) if data else None)
        self.all = []
        return out


def read_on(path, seconds):
    """Piece by piece, from the beginning again at the end; how many bytes."""
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with open(path, 'rb', buffering=0) as f:
            while time.monotonic() < end:
                n = len(f.read(PIECE))
                if not n:
                    break
                total += n
    return total


def read_pieces(path, first, step, seconds):
    """One page of each @step-th 256 KiB from the @first on: nothing of it was read ahead. How many."""
    n, end = 0, time.monotonic() + seconds
    with open(path, 'rb', buffering=0) as f:
        while time.monotonic() < end:
            if not os.pread(f.fileno(), 4096, (first + n * step) << 18):
                raise Fail('the file is too small')
            n += 1
    return n


def touch(path):
    """It is copied up; seconds."""
    begin = time.monotonic()
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b'x', 0)
    os.close(fd)
    return time.monotonic() - begin


def times(paths, until=None):
    """
    lstat of each, once, while @until() is true: how long one that begins at any moment has to wait, in seconds, the
    shortest first. (While one takes long others would have begun, every two milliseconds; they count as well.)
    """
    out = []
    for p in paths:
        begin = time.perf_counter()
        os.lstat(p)
        took = time.perf_counter() - begin
        out.append(took)
        while took > PAUSE:
            took -= PAUSE
            out.append(took)
        if until and not until():
            break
        time.sleep(PAUSE)
    return sorted(out)


def quantile(sorted_times, q):
    return sorted_times[min(int(len(sorted_times) * q), len(sorted_times) - 1)]
