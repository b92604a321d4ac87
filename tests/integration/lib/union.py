# SPDX-License-Identifier: GPL-2.0-or-later
"""A union under test: its directories, its daemon, and what must hold after every unmount."""
import errno
import os
import re
import signal
import subprocess
import time

from . import kernel as k
from . import tree
from .registry import Fail

OPCODES = ('LOOKUP GETATTR SETATTR READLINK SYMLINK MKNOD MKDIR UNLINK RMDIR RENAME LINK OPEN READ '
           'WRITE STATFS RELEASE FSYNC SETXATTR GETXATTR LISTXATTR REMOVEXATTR FLUSH INIT OPENDIR '
           'READDIR RELEASEDIR FSYNCDIR ACCESS CREATE IOCTL FALLOCATE READDIRPLUS RENAME2 LSEEK '
           'COPY_FILE_RANGE TMPFILE STATX FORGET BATCH_FORGET INTERRUPT DESTROY').split()


def escape(path):
    """A path as lowerdir= wants it."""
    return re.sub(r'([\\:,])', r'\\\1', path)


class Union:
    def __init__(self, t, lowers=1, upper=True, name='u', root=None):
        self.t = t
        self.name = name
        self.root = root or os.path.join(t.dir, name)
        self.mnt = os.path.join(self.root, 'mnt')
        self.upper = os.path.join(self.root, 'upper') if upper else None
        self.work = os.path.join(self.root, 'work') if upper else None
        self.lowers = (['%s/l%d' % (self.root, i + 1) for i in range(lowers)]
                       if isinstance(lowers, int) else list(lowers))
        for d in [self.root, self.mnt] + self.lowers + [x for x in (self.upper, self.work) if x]:
            os.makedirs(d, exist_ok=True)
        self.data = []              # layers with data only; then lowers are given by lowerdir+=
        self.proc = None
        self.opts, self.how = (), {}
        self.log = os.path.join(t.logs, '%s.log' % name)
        self.check_lowers = True    # lowers must be as they were
        self.check_layers = True    # work empty, no stage or sentinel names in the upper
        self.before = {}

    # ---- paths and content

    def m(self, rel=''):
        return os.path.join(self.mnt, rel)

    def up(self, rel=''):
        return os.path.join(self.upper, rel)

    def low(self, rel='', i=0):
        return os.path.join(self.lowers[i], rel)

    def put(self, text, i=0):
        """Objects for lower @i (0 on top), or 'upper'; see tree.py for the words."""
        tree.build(self.upper if i == 'upper' else self.lowers[i], text, self.t.ns)
        return self

    def is_metacopy(self, rel):
        """Is it in the upper without its data?"""
        return (self.t.ns + '.overlay.metacopy' in os.listxattr(self.up(rel), follow_symlinks=False) and
                not tree.read(self.up(rel)).strip(b'\0'))

    # ---- the daemon

    def command(self, opts, foreground=True, binary=None):
        o = ['lowerdir=' + ':'.join(map(escape, self.lowers))]
        if self.data:
            o = ['lowerdir+=' + l.replace(',', '\\,') for l in self.lowers]
            o += ['datadir+=' + l.replace(',', '\\,') for l in self.data]
        if self.upper:
            o += ['upperdir=' + escape(self.upper), 'workdir=' + escape(self.work)]
        return ([binary or self.t.binary] + (['-f'] if foreground else []) +
                ['-o', ','.join(o + list(opts)), self.mnt])

    def mount(self, *opts, wrap=(), env=None, limit=30, **popen):
        """Start the daemon in the foreground, its log in a file, and wait for the mount."""
        assert self.proc is None
        self.opts, self.how = opts, dict(popen, wrap=wrap, env=env, limit=limit)
        if self.check_lowers:
            self.before = {l: tree.snapshot(l) for l in self.lowers}
        with open(self.log, 'ab') as log:
            self.proc = subprocess.Popen(list(wrap) + self.command(opts), stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log,
                                         env=dict(os.environ, **(env or {})), **popen)
        end = time.monotonic() + limit * self.t.slow
        while not k.mounted_at(self.mnt):
            r = self.proc.poll()
            if r is not None or time.monotonic() > end:
                if r is not None:
                    self.proc = None
                raise Fail('mount failed, exit status %r: %s' % (r, self.log_text()[-2000:]))
            time.sleep(0.01)
        os.stat(self.mnt)           # answered when the daemon is ready, not only mounted
        return self

    def daemon_pid(self):
        """Of the daemon itself when it was started through another program (strace)."""
        if self.proc.args[0] == self.t.binary:
            return self.proc.pid
        kids = open('/proc/%d/task/%d/children' % (self.proc.pid, self.proc.pid)).read().split()
        return int(kids[0])

    def unmount_once(self):
        if self.t.identity == 'user':
            p = subprocess.run(['fusermount3', '-u', self.mnt], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            if p.returncode:
                raise OSError(errno.EBUSY if 'busy' in p.stdout else errno.EINVAL, p.stdout)
        else:
            k.umount(self.mnt)

    def umount(self):
        """Unmount; the daemon must end by itself with status 0, the layers must be in order."""
        for i in range(150):
            try:
                self.unmount_once()
                break
            except OSError as e:
                if e.errno != errno.EBUSY or i == 149:
                    raise Fail('cannot unmount: %s' % e)
                time.sleep(0.02)
        self.wait_end()
        self.check()

    def wait_end(self, status=0, limit=20):
        if self.proc is not None:
            proc, self.proc = self.proc, None
            try:
                r = proc.wait(limit * self.t.slow)
            except subprocess.TimeoutExpired:
                self.proc = proc
                raise Fail('the daemon did not end after the unmount')
            if r != status:
                raise Fail('the daemon ended with status %d: %s' % (r, self.log_text()[-3000:]))

    def remount(self, *opts):
        self.umount()
        return self.mount(*(opts or self.opts), **self.how)

    def kill(self):
        """SIGKILL, and clear the dead mount away."""
        self.proc.kill()
        self.proc.wait()
        self.proc = None
        self.detach()

    def detach(self):
        if self.t.identity == 'user':
            subprocess.run(['fusermount3', '-u', '-z', self.mnt], stderr=subprocess.DEVNULL)
        else:
            try:
                k.umount(self.mnt, k.MNT_DETACH)
            except OSError:
                pass

    def cleanup(self):
        """After a failure: leave nothing mounted, ask no questions."""
        if k.mounted_at(self.mnt):
            self.detach()
        if self.proc is not None:
            try:
                self.proc.wait(3)
            except subprocess.TimeoutExpired:
                self.proc.kill()
            self.proc = None

    # ---- what must hold after an unmount

    def check(self):
        if self.check_lowers:
            for l in self.lowers:
                d = tree.difference(self.before.get(l, {}), tree.snapshot(l))
                if self.before.get(l) and d:
                    raise Fail('lower %s changed:\n  %s' % (l, '\n  '.join(d[:20])))
        if self.check_layers and self.upper:
            left = [n for n in self.staged() if n != 'incompat' and not n.startswith('.fuse_hidden')]
            left += ['index/' + n for n in self.indexed() if n[0] == '#']
            if left:
                raise Fail('left in workdir: %s' % left)
            for d, ds, fs in os.walk(self.upper):
                for n in ds + fs:
                    if n.startswith(('#', '.wh.')) and len(n) > 1:
                        raise Fail('%s in the upper' % os.path.join(d, n))

    def staged(self):
        """Names in WORK/work."""
        return self._names('work')

    def indexed(self):
        """Names in WORK/index."""
        return self._names('index')

    def _names(self, name):
        """(mode 0000: an owner must lift it to look)"""
        w = os.path.join(self.work, name)
        if not os.path.isdir(w):
            return []
        try:
            return sorted(os.listdir(w))
        except PermissionError:
            mode = os.stat(w).st_mode & 0o7777
            os.chmod(w, 0o700)
            try:
                return sorted(os.listdir(w))
            finally:
                os.chmod(w, mode)

    # ---- log and counters

    def log_text(self, transport=False):
        """Without the line on how requests come, unless asked for."""
        with open(self.log, errors='replace') as f:
            return ''.join(line for line in f if transport or 'over io_uring' not in line)

    def requests(self):
        """Requests received so far by opcode name, as the daemon says on SIGUSR1."""
        start = len(self.log_text())
        os.kill(self.daemon_pid(), signal.SIGUSR1)
        end = time.monotonic() + 5 * self.t.slow
        while time.monotonic() < end:
            said = self.log_text()[start:]
            found = {m[1].upper(): int(m[2]) for m in re.finditer(r'\b([A-Za-z_0-9]+)[=: ]+(\d+)', said)
                     if m[1].upper() in OPCODES}
            if found and said.endswith('\n'):
                time.sleep(0.05)
                if len(self.log_text()) == start + len(said):
                    return found
            time.sleep(0.02)
        raise Fail('no request counts in the log after SIGUSR1')

    def requests_during(self, fn, quiet=('FORGET', 'BATCH_FORGET', 'INTERRUPT')):
        """Requests that fn() caused; FORGETs come when the kernel likes and are left out. So are, with --opts passthrough=on,
        those for opening and closing, which are asked of every file."""
        if 'passthrough=on' in os.environ.get('UNIONFS_OPTS', ''):
            quiet = tuple(quiet) + ('OPEN', 'RELEASE')
        a = self.requests()
        fn()
        b = self.requests()
        return {n: b[n] - a.get(n, 0) for n in b if b[n] != a.get(n, 0) and n not in quiet}
