# SPDX-License-Identifier: GPL-2.0-or-later
"""
One test in a process and mount namespace of its own, under a supervisor that outlives a hang.

The supervisor (root where the run is) makes the namespace and is the subreaper of everything the
test starts, so daemons that went to the background are found, and only they. The body below it
takes on the identity and runs the function.
"""
import glob
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time
import traceback

from . import kernel as k
from .context import Context
from .registry import Fail, Skip

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
USER = 1000
SUSPICIOUS = re.compile(r'AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|'
                        r'runtime error|\bleak|double free|corrupt|[Aa]ssertion|CRITICAL|'
                        r'stack smashing|buffer overflow', re.I)


def descendants(pid):
    parents = {}
    for p in glob.glob('/proc/[0-9]*/stat'):
        try:
            with open(p) as f:
                s = f.read()
        except OSError:
            continue
        # the name in parentheses may hold anything
        parents[int(s.split(' ', 1)[0])] = int(s.rsplit(')', 1)[1].split()[1])
    out, grew = set(), True
    while grew:
        more = {p for p, pp in parents.items() if (pp == pid or pp in out) and p not in out}
        out |= more
        grew = bool(more)
    return sorted(out)


def _read(path):
    try:
        with open(path, errors='replace') as f:
            return f.read().strip()
    except OSError as e:
        return '(%s)' % e.strerror


def stacks(pids):
    """What every process is doing; gdb only for daemons, it may hang on others."""
    out = []
    for pid in pids:
        comm = _read('/proc/%d/comm' % pid)
        out.append('-- %d %s: %s' % (pid, comm, _read('/proc/%d/cmdline' % pid).replace('\0', ' ')[:200]))
        for task in sorted(glob.glob('/proc/%d/task/*' % pid)):
            out.append('   %s %s wchan %s' % (os.path.basename(task),
                                              _read(task + '/stat').rsplit(')', 1)[-1][:2].strip(),
                                              _read(task + '/wchan')))
            stack = _read(task + '/stack').split('\n')[:6]
            out += ['      ' + s for s in stack if s]
        if comm.startswith('fuse-') and shutil.which('gdb'):
            try:
                p = subprocess.run(['gdb', '-p', str(pid), '-batch', '-ex', 'thread apply all bt'],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, timeout=30)
                out += ['   ' + s for s in p.stdout.split('\n')
                        if s.startswith(('#', 'Thread'))]
            except subprocess.TimeoutExpired:
                out.append('   (gdb hung)')
    return '\n'.join(out)


def fuse_devices(pid='self'):
    try:
        return {m[0] for m in k.mounts(pid) if m[2] == 'fuse' or m[2].startswith('fuse.')}
    except OSError:
        return set()


def abort_connections(devices):
    base = '/sys/fs/fuse/connections'
    if not os.path.isdir(base):
        return
    if not k.mounted_at(base):
        try:
            k.mount('fusectl', base, 'fusectl')
        except OSError:
            return
    for d in devices:
        try:
            with open('%s/%s/abort' % (base, d.split(':')[1]), 'w') as f:
                f.write('1')
        except OSError:
            pass


def kill_all(pids):
    for p in pids:
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass


def reap(limit):
    """Wait for all children; True when none is left."""
    end = time.monotonic() + limit
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            if time.monotonic() > end:
                return False
            time.sleep(0.01)


class Job:
    """One test, as one identity, on one file system."""

    def __init__(self, number, case, identity, fs, run_dir, fs_dir, binary, slow):
        self.case, self.identity, self.fs = case, identity, fs
        self.logs = os.path.join(run_dir, 'logs', '%04d' % number)
        self.dir = os.path.join(fs_dir, '%04d' % number)
        self.env = os.path.join(self.logs, 'env')
        self.binary, self.slow = binary, slow
        self.limit = case.timeout * slow

    def label(self):
        return '%s [%s, %s]' % (self.case.name, self.identity, self.fs)

    # ---- supervisor

    def start(self):
        """Fork the supervisor; its result is in result() when it has ended."""
        os.makedirs(self.logs, 0o755)
        os.mkdir(self.dir, 0o755)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self._supervise()
                code = 0
            except BaseException:
                self._save('fail', 'the harness itself failed:\n' + traceback.format_exc())
            finally:
                os._exit(code)
        return pid

    def result(self):
        try:
            with open(os.path.join(self.logs, 'result.json')) as f:
                return json.load(f)
        except (OSError, ValueError):
            return {'outcome': 'fail', 'text': 'the supervisor died', 'seconds': 0}

    def _save(self, outcome, text, seconds=0):
        with open(os.path.join(self.logs, 'result.json'), 'w') as f:
            json.dump({'outcome': outcome, 'text': text, 'seconds': seconds}, f)

    def _supervise(self):
        os.setpgid(0, 0)
        begin = time.monotonic()
        k.prctl(PR_SET_CHILD_SUBREAPER, 1)
        foreign = fuse_devices()
        for p in self.case.needs:
            if not shutil.which(p):
                return self._save('skip', '%s is missing' % p)
        try:
            self._enter()
        except Skip as e:
            return self._save('skip', str(e))

        r, w = os.pipe()
        body = os.fork()
        if body == 0:
            os.close(r)
            self._body(w)
        os.close(w)
        data, hung = self._listen(r, begin + self.limit)
        text = ''
        if hung:
            pids = descendants(os.getpid())
            text = 'no end after %d s\n%s' % (self.limit, stacks(pids))
            outcome = 'fail'
        else:
            os.waitpid(body, 0)
            try:
                outcome, text = json.loads(data)
            except ValueError:
                outcome, text = 'fail', 'the test process died'
        outcome, text = self._sweep(outcome, text, foreign)
        outcome, text = self._scan(outcome, text)
        self._save(outcome, text, time.monotonic() - begin)

    def _listen(self, r, end):
        data = b''
        while True:
            left = end - time.monotonic()
            if left <= 0:
                return data, True
            if select.select([r], [], [], min(left, 1))[0]:
                b = os.read(r, 65536)
                if not b:
                    return data, False
                data += b

    def _sweep(self, outcome, text, foreign):
        """No process may be left, and nothing mounted: the namespace goes with the last process."""
        if outcome != 'fail' and not reap(5 * self.slow):
            outcome, text = 'fail', 'processes left over:\n' + stacks(descendants(os.getpid()))
        left = descendants(os.getpid())
        devices = fuse_devices()
        for p in left:
            devices |= fuse_devices(p)
        abort_connections(devices - foreign)
        kill_all(left)
        if not reap(15):
            text += '\nand a process could not be killed:\n' + stacks(descendants(os.getpid()))
            outcome = 'fail'
        return outcome, text

    def _scan(self, outcome, text):
        for log in sorted(glob.glob(os.path.join(self.logs, '*.log'))):
            said = _read(log)
            bad = SUSPICIOUS.search(said)
            if bad and outcome != 'fail':
                outcome = 'fail'
                text = 'the daemon said something suspicious (%s)' % bad[0]
            if bad:
                text += '\n-- %s\n%s' % (os.path.basename(log), said[max(0, bad.start() - 300):][:4000])
        return outcome, text

    # ---- the namespace

    def _enter(self):
        if os.geteuid() != 0:
            if self.identity == 'root':
                raise Skip('needs root')
            os.mkdir(self.env)
            return
        try:
            k.private_namespace()
        except OSError as e:
            raise Skip('no mount namespace here: %s' % e)
        if self.fs == 'tmpfs':
            k.mount('tmpfs', self.dir, 'tmpfs', 0, 'mode=755')
        os.mkdir(self.env)
        k.mount('tmpfs', self.env, 'tmpfs', 0, 'mode=755')
        self._private_fuse()
        # The daemon under its own name, reachable whatever the rights of the build directory.
        os.mkdir(self.env + '/bin')
        program = self.env + '/bin/fuse-unionfs'
        open(program, 'w').close()
        k.mount(self.binary, program, None, k.MS_BIND)
        self.binary = program
        shutil.copy(os.path.join(os.path.dirname(os.path.realpath(__file__)), 'lsan.supp'), self.env)
        os.mkdir(self.env + '/home')
        os.chown(self.env + '/home', USER, USER)
        if self.identity != 'root':
            os.chown(self.dir, USER, USER)
            os.chown(self.logs, USER, USER)
            self._private_passwd()
        if self.case.prepare:
            self.case.prepare(self.dir)

    def _private_fuse(self):
        """/dev/fuse may be closed to users (0600); this namespace gets an open one."""
        if not os.path.exists('/dev/fuse'):
            raise Skip('/dev/fuse is missing')
        node = self.env + '/fuse'
        os.mknod(node, 0o020666, os.makedev(10, 229))
        os.chmod(node, 0o666)
        k.mount(node, '/dev/fuse', None, k.MS_BIND)

    def _private_passwd(self):
        """fusermount3 asks for the user's name."""
        with open('/etc/passwd') as f:
            said = f.read()
        if ':x:%d:' % USER not in said:
            with open(self.env + '/passwd', 'w') as f:
                f.write(said + 'tester:x:%d:%d::/:/bin/sh\n' % (USER, USER))
            k.mount(self.env + '/passwd', '/etc/passwd', None, k.MS_BIND)

    # ---- body

    def _body(self, w):
        out = os.open(os.path.join(self.logs, 'output'), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(out, 1)
        os.dup2(out, 2)
        t = None
        drops = k.foreign_drops()
        # Whoever runs all this in the background may have them ignored; the daemon would heed that.
        for s in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(s, signal.SIG_DFL)
        try:
            os.umask(0o022)
            self._become()
            t = Context(self.dir, self.logs, self.identity, self.fs, self.binary, self.slow)
            os.chdir(self.dir)
            self.case.fn(t)
            t.finish()
            outcome, text = 'pass', ''
        except Skip as e:
            outcome, text = 'skip', str(e)
        except Fail as e:
            outcome, text = 'fail', '%s\n%s' % (e, self._where())
            if self.case.alone and k.foreign_drops() != drops:
                outcome, text = 'skip', "others emptied the machine's caches meanwhile: %s" % e
        except BaseException:
            outcome, text = 'fail', traceback.format_exc()
        try:
            os.chdir('/')
            if t:
                t.cleanup()
            os.write(w, json.dumps([outcome, text]).encode())
        finally:
            os._exit(0)

    def _where(self):
        lines = [s for s in traceback.format_exc().split('\n') if '/test_' in s or '/lib/' not in s]
        return '\n'.join(s for s in lines if s.strip().startswith('File') and '/test_' in s)

    def _become(self):
        env = os.environ
        env['PATH'] = '%s/bin:%s:/usr/sbin:/sbin' % (self.env, env.get('PATH', '/usr/bin:/bin'))
        env['LC_ALL'] = 'C.UTF-8'
        env['UNIONFS'] = self.binary
        env['LSAN_OPTIONS'] = 'suppressions=%s:print_suppressions=0' % (self.env + '/lsan.supp')
        env.pop('TMPDIR', None)
        if self.identity == 'root':
            return
        uid = os.getuid()
        if uid == 0:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            uid = USER
            env['HOME'] = self.env + '/home'
            env['USER'] = env['LOGNAME'] = 'tester'
            k.prctl(PR_SET_DUMPABLE, 1)     # or /proc/self belongs to root after the change
        if self.identity == 'user':
            if not shutil.which('fusermount3'):
                raise Skip('fusermount3 is missing')
            if not os.path.exists('/etc/mtab'):
                raise Skip('fusermount3 cannot unmount without /etc/mtab')
            if self.env not in self.binary and not os.access('/dev/fuse', os.R_OK | os.W_OK):
                raise Skip('/dev/fuse is closed to this user')
            return
        gid = os.getgid()
        try:
            k.unshare(k.CLONE_NEWUSER | k.CLONE_NEWNS)
        except OSError as e:
            raise Skip('no user namespace here: %s' % e)
        for name, said in (('setgroups', 'deny'), ('uid_map', '0 %d 1' % uid),
                           ('gid_map', '0 %d 1' % gid)):
            with open('/proc/self/' + name, 'w') as f:
                f.write(said)
        k.mount('none', '/', None, k.MS_REC | k.MS_PRIVATE)
