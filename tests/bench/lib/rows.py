# SPDX-License-Identifier: GPL-2.0-or-later
"""
The table of rows: what each is called and how many times the kernel's seconds it may take. What a
row does is in rows_*.py; a piece of work there yields one or more rows.
"""
import fnmatch


class Row:
    def __init__(self, name, title, limit=None, alternative=None, seconds=None):
        self.name, self.title = name, title
        self.limit = limit                  # us / kernel at most
        self.alternative = alternative      # the same, for the line with other options
        self.seconds = seconds              # us, in seconds, at most


# One or more lines to a row: '' as mounted by default; another with options for kernel and us.
# fuse-overlayfs never syncs: where data is copied up, the line `volatile` is what to compare.
VOLATILE = ('volatile', 'volatile', 'volatile')
METACOPY = ('metacopy', 'redirect_dir=on,metacopy=on', 'redirect_dir=on,metacopy=on')
WRITEBACK = ('volatile,writeback', 'volatile', 'volatile,writeback=1')

ROWS = [
    Row('stat.first', 'first walk with stat, nothing cached', 2),
    Row('stat.again', 'walk with stat, again', 1.15),
    Row('read.first', 'read all, first on the mount', 2),
    Row('read.again', 'read all, again', 1.15),
    Row('tar.first', 'tar of all, first on the mount', 2),
    Row('tar.again', 'tar of all, again', 1.15),
    Row('grep', 'grep -r, warm', 1.15),
    Row('untar', 'untar', 1.3),
    Row('rm.new', 'rm -rf of new files', 2),
    Row('cp', 'cp -a of a lower tree', 1.2),
    Row('rm.lower', 'rm -rf of a lower tree', 1.5),
    Row('chmod', 'chmod -R of a lower tree'),
    Row('chown', 'chown -R of a lower tree'),
    Row('append.many', 'append to 2,000 lower files', 1),
    Row('append.big', 'append to a lower file of 1 GiB'),
    Row('mv.dir', 'mv of a lower directory'),
    Row('git.clone', 'git clone', 1.2),
    Row('git.status', 'git status', 1.5),
    Row('git.checkout', 'git checkout of a third', 1.3),
    Row('git.gc', 'git gc', 1.2),
    Row('make', 'make -j2, 120 files', 1.05),
    Row('write.big', 'write 1 GiB', 2.5),
    Row('read.big.first', 'read 1 GiB, first on the mount', 2),
    Row('read.big.again', 'read 1 GiB, again', 1.15),
    Row('sqlite', '2,000 sqlite transactions (WAL)', 5, alternative=2),
    Row('ls.first', 'ls of 100,000 entries, first', 1.5),
    Row('ls.again', 'ls of 100,000 entries, again', 0.8),
    Row('ls.long.first', 'ls -l of 100,000 entries, first', 1.5),
    Row('ls.long.again', 'ls -l of 100,000 entries, again', 1.5),
    Row('layers.walk', '128 layers: walk, first', 0.5),
    Row('layers.read', '128 layers: read all', 1),
    Row('layers.miss', '128 layers: 5,000 misses', 0.3),
    Row('procs.2', '2 processes: create, rename, unlink', 1.3),
    Row('procs.4', '4 processes: create, rename, unlink'),
    Row('tmpfs.procs.1', '1 process, layers on tmpfs'),
    Row('tmpfs.procs.2', '2 processes, layers on tmpfs'),
    Row('tmpfs.procs.4', '4 processes, layers on tmpfs'),
    Row('fio.read', 'fio random read, 4 KiB'),
    Row('fio.write', 'fio random write, 4 KiB'),
    Row('diff', "an image build's diff"),
    Row('mount', 'mount, 2 lowers'),
    Row('umount', 'unmount, 2 lowers'),
    Row('mount.500', 'mount, 500 lowers', seconds=0.1),
    Row('umount.500', 'unmount, 500 lowers'),
]
BY_NAME = {r.name: r for r in ROWS}

# Two processes on different directories, upper on tmpfs: as much faster as on tmpfs, times this.
SCALING = 0.85


class Work:
    """A function that measures some rows on one mount."""

    def __init__(self, fn, rows, warm, lines, needs, plain, on):
        self.fn, self.rows, self.warm, self.lines = fn, rows, warm, lines
        self.needs = needs              # programs
        self.plain = plain              # whether a plain directory can do it
        self.on = on                    # 'ext4' or 'tmpfs'


WORKS = []


def work(*rows, warm=(), lines=(), needs=(), plain=True, on='ext4'):
    for name in rows:
        assert name in BY_NAME, name

    def register(fn):
        WORKS.append(Work(fn, rows, warm, lines, needs, plain, on))
        return fn
    return register


def matching(globs):
    return {r.name for r in ROWS if not globs or any(fnmatch.fnmatchcase(r.name, g) for g in globs)}


def lines_of(name):
    """[(line, kernel options, our options)], the default first."""
    for w in WORKS:
        if name in w.rows:
            return [('', '', '')] + list(w.lines)
    return [('', '', '')]
