# SPDX-License-Identifier: GPL-2.0-or-later
"""
The file systems that are compared. A Mount has layers, is started and stopped, and can be asked
what its daemon holds. The whole run is in a mount namespace of its own and daemons die with it, so
nothing is left however it ends.
"""
import errno
import os
import re
import shutil
import signal
import subprocess
import time

from .base import LIMIT, Failed, abort_connection, die_with_parent, k, remove, tool, watchdog

MAX_OPTIONS = 3500                      # mount(2) takes one page


def escape(path):
    return re.sub(r'([\\:,])', r'\\\1', path)


class Mount:
    """Layers merged at .path. Made in @dir, which it owns."""
    daemon = None                       # its process, where there is one

    def __init__(self, dir, lowers, opts=''):
        self.dir, self.lowers, self.opts = dir, lowers, opts
        self.path, self.upper, self.work = dir + '/mnt', dir + '/upper', dir + '/work'
        for d in (self.path, self.upper, self.work):
            os.makedirs(d)

    def options(self):
        """(directory to be in, options): many lowers are named relative to where they are."""
        base, lowers = '/', self.lowers
        if sum(len(l) + 1 for l in lowers) > MAX_OPTIONS:
            base = os.path.commonpath(lowers)
            lowers = [os.path.relpath(l, base) for l in lowers]
        words = ['lowerdir=' + ':'.join(map(escape, lowers)), 'upperdir=' + escape(self.upper),
                 'workdir=' + escape(self.work)]
        return base, ','.join(words + ([self.opts] if self.opts else []))

    def start(self):
        """Mount; the seconds until the first stat of its root was answered."""
        if 'volatile' in self.opts:     # what a volatile mount leaves, to be refused by the next
            shutil.rmtree(self.work + '/work/incompat', ignore_errors=True)
        base, opts = self.options()
        with watchdog(self.abort, 60):
            begin = time.perf_counter()
            self.attach(base, opts)
            os.stat(self.path)
            return time.perf_counter() - begin

    def stop(self):
        """Unmount; the seconds until the daemon, if there is one, has ended."""
        if not k.mounted_at(self.path):
            return 0.0
        with watchdog(self.abort, 60):
            begin = time.perf_counter()
            self.detach()
            if self.daemon:
                self.daemon.wait()
                self.daemon = None
            return time.perf_counter() - begin

    def detach(self):
        for _ in range(400):
            try:
                return k.umount(self.path)
            except OSError as e:
                if e.errno != errno.EBUSY:
                    raise
                time.sleep(0.005)
        k.umount(self.path, k.MNT_DETACH)

    def fresh(self):
        """As new: an empty upper."""
        self.stop()
        remove(self.upper, self.work)
        os.mkdir(self.upper)
        os.mkdir(self.work)
        self.start()

    def remount(self):
        self.stop()
        self.start()

    def abort(self):
        abort_connection(self.path)
        if self.daemon:
            self.daemon.kill()

    def close(self):
        try:
            self.stop()
        except OSError:
            self.abort()
        remove(self.dir)

    # ---- what the daemon holds and did

    def pid(self):
        return self.daemon.pid if self.daemon else None

    def memory(self):
        """Resident bytes, open descriptors."""
        with open('/proc/%d/status' % self.pid()) as f:
            rss = re.search(r'VmRSS:\s+(\d+)', f.read())
        return int(rss[1]) << 10 if rss else 0, len(os.listdir('/proc/%d/fd' % self.pid()))

    def cpu(self):
        """Seconds of processor time of all threads."""
        total = 0
        for task in os.listdir('/proc/%d/task' % self.pid()):
            try:
                with open('/proc/%d/task/%s/schedstat' % (self.pid(), task)) as f:
                    total += int(f.read().split()[0])
            except OSError:
                pass
        return total / 1e9

    def requests(self):
        """Requests so far by kind, or None where the daemon does not count them."""
        return None


class Plain(Mount):
    """A directory: the lower itself, or a copy when it is going to be written to."""

    def __init__(self, dir, lowers, opts='', writes=False):
        self.dir, self.lower, self.writes = dir, lowers[0], writes
        os.makedirs(dir)
        self.path = dir + '/copy' if writes else self.lower

    def start(self):
        if self.writes and not os.path.exists(self.path):
            tool('cp', '-a', self.lower, self.path)
        return 0.0

    def stop(self):
        return 0.0

    def fresh(self):
        if self.writes:
            remove(self.path)
            self.start()

    def abort(self):
        pass


class Overlay(Mount):
    def attach(self, base, opts):
        os.chdir(base)
        try:
            k.mount('overlay', self.path, 'overlay', 0, opts)
        finally:
            os.chdir('/')


class Fuse(Mount):
    program = None

    def attach(self, base, opts):
        before = os.stat(self.path).st_dev
        self.log = self.dir + '/log'
        with open(self.log, 'ab') as log:
            self.daemon = subprocess.Popen([self.program, '-f', '-o', opts, self.path], cwd=base,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                           preexec_fn=die_with_parent)
        while os.stat(self.path).st_dev == before:
            if self.daemon.poll() is not None:
                said, self.daemon = self.text()[-400:].strip(), None
                raise Failed('%s did not mount: %s' % (os.path.basename(self.program), said))
            time.sleep(0.0005)

    def text(self):
        with open(self.log, errors='replace') as f:
            return f.read()


class FuseOverlayfs(Fuse):
    program = 'fuse-overlayfs'


class Unionfs(Fuse):
    def requests(self):
        start = len(self.text())
        os.kill(self.pid(), signal.SIGUSR1)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            said = self.text()[start:]
            if re.search(r'state: .*\n', said):
                line = re.search(r'requests:(.*)', said)[1]
                return {n: int(c) for n, c in re.findall(r'(\w+)=(\d+)', line) if n != 'total'}
            time.sleep(0.001)
        raise Failed('no request counts after SIGUSR1')


KINDS = {'ext4': Plain, 'kernel': Overlay, 'fuse-overlayfs': FuseOverlayfs, 'fuse-unionfs': Unionfs}


def usable(names, binary):
    """Those that work here; {name: why not} for the others."""
    Unionfs.program = binary
    why = {}
    with open('/proc/filesystems') as f:
        if 'kernel' in names and '\toverlay\n' not in f.read():
            if subprocess.run(['modprobe', 'overlay'], stderr=subprocess.DEVNULL).returncode:
                why['kernel'] = 'the kernel has no overlay'
    if 'fuse-overlayfs' in names and not shutil.which('fuse-overlayfs'):
        why['fuse-overlayfs'] = 'not installed'
    return [n for n in names if n not in why], why


class Scratch:
    """Where layers lie: a directory if that is on ext4, else an ext4 image mounted there."""
    EXT4 = 0xef53

    def __init__(self, base):
        k.private_namespace()
        self.dir = os.path.join(base, 'bench-unionfs-%d' % os.getpid())
        os.makedirs(self.dir)
        self.image = False
        said = subprocess.run(['stat', '-f', '-c', '%t', self.dir], stdout=subprocess.PIPE, text=True)
        if int(said.stdout, 16) != self.EXT4:
            self._image()
        os.mkdir(self.dir + '/tmpfs')
        k.mount('tmpfs', self.dir + '/tmpfs', 'tmpfs', 0, 'mode=755')
        if os.path.isdir('/sys/fs/fuse/connections') and not k.mounted_at('/sys/fs/fuse/connections'):
            k.mount('fusectl', '/sys/fs/fuse/connections', 'fusectl')

    def _image(self):
        image = self.dir + '.img'
        with open(image, 'wb') as f:
            f.truncate(40 << 30)        # sparse
        tool('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0', image)
        tool('mount', '-o', 'loop', image, self.dir)
        os.unlink(image)                # the loop device keeps it
        self.image = True

    def close(self):
        for where in [self.dir + '/tmpfs'] + [self.dir] * self.image:
            if k.mounted_at(where):
                k.umount(where, k.MNT_DETACH)
        subprocess.run(['rm', '-rf', '--one-file-system', self.dir], timeout=LIMIT)
