# SPDX-License-Identifier: GPL-2.0-or-later
"""
A process and mount namespace with a plain user in it who has subordinate ids, an open /dev/fuse and
a home. We are its first process: whatever a client leaves running stays below us, can be found, and
ends with us.
"""
import glob
import os
import re
import shutil
import signal
import subprocess
import time

NAME, UID, SUBID = 'unionfs-tester', 4711, 1200000


class Skip(Exception):
    pass


class Fail(Exception):
    pass


def mount(*args):
    subprocess.run(['mount', *args], check=True)


class Room:
    def __init__(self, scratch, program, quick):
        self.dir, self.quick = scratch, quick
        os.chmod(scratch, 0o755)
        self.home = scratch + '/home'
        self.runtime = scratch + '/run'
        self.program = '%s/bin/%s' % (scratch, os.path.basename(program))
        self.counts = {'PASS': 0, 'FAIL': 0, 'SKIP': 0}
        self.prefix, self.passed, self.failed = '', set(), []
        self.begin = int(time.time())
        for d in ('bin', 'etc', 'logs', 'tmp'):
            os.mkdir(self.path(d), 0o755)
        os.chmod(self.path('tmp'), 0o1777)
        shutil.copy(program, self.program)
        self._user()
        self._fuse()
        self._cgroups()
        version = subprocess.run([program, '--version'], stdout=subprocess.PIPE, text=True).stdout
        print('# %s: %s' % (program, '; '.join(version.split('\n')[:2])))

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def _user(self):
        """Files of ours over those in /etc, in this namespace only."""
        lines = {'passwd': '%s:x:%d:%d::%s:/bin/sh' % (NAME, UID, UID, self.home),
                 'group': '%s:x:%d:' % (NAME, UID),
                 'subuid': '%s:%d:65536' % (NAME, SUBID), 'subgid': '%s:%d:65536' % (NAME, SUBID),
                 'fuse.conf': 'user_allow_other'}
        for name, line in lines.items():
            there = '/etc/' + name
            if not os.path.exists(there):
                raise SystemExit('%s is missing' % there)
            with open(there) as f:
                old = f.read()
            with open(self.path('etc', name), 'w') as f:
                f.write(old + ('' if old.endswith('\n') else '\n') + line + '\n')
            mount('--bind', self.path('etc', name), there)
        for d in (self.home, self.runtime):
            os.mkdir(d, 0o700)
            os.chown(d, UID, UID)

    def _fuse(self):
        """/dev/fuse may be closed to users (0600); this namespace gets an open one."""
        os.mkdir(self.path('dev'))
        mount('-t', 'tmpfs', 'tmpfs', self.path('dev'))
        node = self.path('dev', 'fuse')
        os.mknod(node, 0o020666, os.stat('/dev/fuse').st_rdev)
        os.chmod(node, 0o666)
        mount('--bind', node, '/dev/fuse')

    def _cgroups(self):
        """crun refuses a host with both versions mounted; show it the second only."""
        if os.path.isdir('/sys/fs/cgroup/unified'):
            mount('--bind', '/sys/fs/cgroup/unified', '/sys/fs/cgroup')

    # ---- running things

    def sh(self, script, limit=120, user=True, cwd=None, env=()):
        """Output of a shell script; Fail when it fails or lasts too long."""
        full = {'PATH': self.path('bin') + ':/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
                'LC_ALL': 'C.UTF-8', 'TMPDIR': self.path('tmp'), 'PROGRAM': self.program, 'DIR': self.dir,
                'HOME': self.home if user else '/root', **dict(env)}
        who = {}
        if user:
            full.setdefault('XDG_RUNTIME_DIR', self.runtime)
            who = {'user': UID, 'group': UID, 'extra_groups': []}
        log = self.path('logs', '%03d' % len(os.listdir(self.path('logs'))))
        with open(log, 'w+', errors='replace') as out:
            p = subprocess.Popen(['bash', '-euc', 'exec 9>&2; BASH_XTRACEFD=9; set -x\n' + script], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 cwd=cwd or (self.home if user else self.dir), env=full,
                                 start_new_session=True, **who)
            try:
                status = p.wait(limit)
            except subprocess.TimeoutExpired:
                status = 'none after %d s; running: %s' % (limit, ', '.join(self.processes()))
                os.killpg(p.pid, signal.SIGKILL)
                try:
                    p.wait(10)
                except subprocess.TimeoutExpired:
                    pass
            out.seek(0)
            text = out.read()
        if status != 0:
            raise Fail('status %s\n%s' % (status, text[-3000:]))
        return text

    def step(self, name, script, limit=120, needs=(), after=(), known=None, **args):
        """One line of the result. @script is shell text or a function; @known says why it fails today."""
        begin = time.monotonic()
        try:
            for tool in needs:
                if not shutil.which(tool):
                    raise Skip(tool + ' is missing')
            for earlier in after:
                if self.prefix + earlier not in self.passed:
                    raise Skip('after %s, which did not pass' % earlier)
            out = script() if callable(script) else self.sh(script, limit, **args)
            result, said = 'PASS', ''
            self.passed.add(self.prefix + name)
        except Skip as e:
            result, said, out = 'SKIP', ': %s' % e, None
        except Fail as e:
            if known:
                result, said, out = 'SKIP', ': known to fail: ' + known, None
            else:
                result, said, out = 'FAIL', '\n       ' + str(e).strip().replace('\n', '\n       '), None
                self.failed.append(self.prefix + name)
        self.counts[result] += 1
        print('%s %s%s (%.1f s)%s' % (result, self.prefix, name, time.monotonic() - begin, said))
        return out

    def case(self, name, function):
        self.prefix = name + '.'
        try:
            function(self)
        except Skip as e:
            self.counts['SKIP'] += 1
            print('SKIP %s: %s' % (name, e))
        self.prefix = ''

    def close(self):
        if self.failed:
            print('failed: ' + ' '.join(self.failed))
        print('%d s' % (time.time() - self.begin))
        print('%(PASS)d passed, %(FAIL)d failed, %(SKIP)d skipped' % self.counts)
        return 1 if self.failed else 0

    # ---- what is left

    def _running(self):
        """Number and name of all processes in the room but this one and the dead."""
        for p in glob.glob('/proc/[0-9]*/stat'):
            try:
                with open(p) as f:
                    text = f.read()
            except OSError:
                continue
            pid, name, rest = re.match(r'(\d+) \((.*)\) (.*)', text, re.S).groups()
            if pid != '1' and rest[0] != 'Z':
                yield int(pid), name

    def processes(self):
        return sorted(name for _, name in self._running())

    def mounts(self):
        """Mount points of FUSE file systems in any mount namespace of the room."""
        seen = set()
        for p in glob.glob('/proc/[0-9]*/mountinfo'):
            try:
                with open(p) as f:
                    for line in f:
                        if re.search(r' - fuse(\.|\s)', line):
                            seen.add(line.split()[4])
            except OSError:
                pass
        return sorted(seen)

    def nothing_left(self, wait=5):
        """No daemon and no mount of ours; a daemon may take a moment to end."""
        end = time.monotonic() + wait
        name = os.path.basename(self.program)[:15]
        while True:
            daemons = [p for p in self.processes() if p in (name, 'conmon')]
            mounts = self.mounts()
            if not daemons and not mounts:
                return
            if time.monotonic() > end:
                raise Fail('left: processes %s, mounts %s' % (daemons, mounts))
            time.sleep(0.1)

    def end_daemons(self):
        """So that one leak is one failed step."""
        name = os.path.basename(self.program)[:15]
        for pid, comm in self._running():
            if comm == name:
                os.kill(pid, signal.SIGKILL)
        self.nothing_left()
