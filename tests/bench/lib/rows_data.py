# SPDX-License-Identifier: GPL-2.0-or-later
"""Large files, large directories, programs that keep data, many processes, mounting."""
import json

from .base import Failed, shell, tool
from .rows import VOLATILE, WRITEBACK, work


@work('append.big', warm=['big'], lines=[VOLATILE])
def append_big(b):
    m = b.mount('big', writes=True)
    b.measure('append.big', lambda: shell('echo one more line >> %s/big' % m),
              reset=None if b.plain else b.fresh)


@work('write.big')
def write_big(b):
    m = b.mount('empty', writes=True)
    b.measure('write.big', lambda: tool('dd', 'if=/dev/zero', 'of=%s/new' % m, 'bs=1M',
                                        'count=%d' % b.size['big_mib']),
              reset=lambda: tool('rm', m + '/new'))


@work('read.big.first', 'read.big.again', warm=['big'])
def read_big(b):
    m = b.mount('big')
    b.measure('read.big.first', lambda: tool('dd', 'if=%s/big' % m, 'of=/dev/null', 'bs=1M'),
              reset=b.remount)
    b.measure('read.big.again', lambda: tool('dd', 'if=%s/big' % m, 'of=/dev/null', 'bs=1M'))


@work('ls.first', 'ls.again', 'ls.long.first', 'ls.long.again', warm=['many'])
def ls(b):
    m = b.mount('many')
    b.measure('ls.first', lambda: tool('ls', m + '/many'), reset=b.remount)
    b.measure('ls.again', lambda: tool('ls', m + '/many'))

    def listed():
        b.remount()
        tool('ls', m + '/many')

    b.measure('ls.long.first', lambda: tool('ls', '-l', m + '/many'), reset=listed)
    b.measure('ls.long.again', lambda: tool('ls', '-l', m + '/many'))


# ---- programs

@work('git.clone', 'git.status', 'git.checkout', 'git.gc', warm=['repo'], lines=[VOLATILE],
      needs=['git'])
def git(b):
    m = b.mount('repo', writes=True)
    clone = m + '/clone'

    def checkout(branch):
        return tool('git', 'checkout', '-q', branch, cwd=clone)

    b.measure('git.clone', lambda: tool('git', 'clone', '-q', m + '/repo.git', clone), reset=b.fresh)
    tool('git', 'status', '--porcelain', cwd=clone)     # writes the index once
    b.measure('git.status', lambda: tool('git', 'status', '--porcelain', cwd=clone))
    b.measure('git.checkout', lambda: checkout('other'), reset=lambda: checkout('main'))
    b.measure('git.gc', lambda: tool('git', 'gc', '-q', '--prune=now', cwd=clone), repeat=False)


@work('make', warm=['project'], needs=['make', 'cc'])
def make(b):
    m = b.mount('project', writes=True)
    b.measure('make', lambda: tool('make', '-s', '-j2', '-C', m + '/project'), reset=b.fresh)


@work('sqlite', warm=['db'], lines=[WRITEBACK], needs=['sqlite3'])
def sqlite(b):
    m = b.mount('db', writes=True)
    tool('sqlite3', m + '/bench.db', 'delete from t where k % 3 = 0;')     # copied up

    def transactions():
        with open(b.inputs.get('db') + '/work.sql') as f:
            return tool('sqlite3', m + '/bench.db', stdin=f)

    b.settle()
    b.measure('sqlite', transactions)


def _fio(m, kind, path, size_mib, io_mib):
    """The seconds fio says its I/O took, without starting and laying out."""
    _, said = tool('fio', '--name=bench', '--filename=' + path, '--rw=' + kind, '--bs=4k',
                   '--size=%dM' % size_mib, '--io_size=%dM' % io_mib, '--ioengine=psync', '--thread',
                   '--invalidate=0', '--fallocate=none', '--randseed=7', '--norandommap',
                   '--output-format=json', cwd=m, output=True)
    job = json.loads(said[said.index('{'):])['jobs'][0]
    part = job['read' if 'read' in kind else 'write']
    if job['error'] or not part['iops']:
        raise Failed('fio: error %d' % job['error'])
    return part['total_ios'] / part['iops']


@work('fio.read', 'fio.write', warm=['big'], needs=['fio'])
def fio(b):
    m = b.mount('big')
    mib = b.size['big_mib']
    b.measure('fio.read', lambda: _fio(m, 'randread', m + '/big', mib, mib // 4), reset=b.remount)
    m = b.mount('empty', name='written', writes=True)
    tool('dd', 'if=/dev/zero', 'of=%s/new' % m, 'bs=1M', 'count=%d' % (mib // 4))
    b.settle()
    b.measure('fio.write', lambda: _fio(m, 'randwrite', m + '/new', mib // 4, mib // 8))


# ---- many at once

@work('procs.2', 'procs.4')
def procs(b):
    m = b.mount('empty', writes=True)
    for n in (2, 4):
        b.measure('procs.%d' % n, lambda: b.helper('churn', m, n, b.size['churn']))


@work('tmpfs.procs.1', 'tmpfs.procs.2', 'tmpfs.procs.4', on='tmpfs')
def procs_tmpfs(b):
    m = b.mount('empty', writes=True)
    b.helper('churn', m, 4, 10)
    for n in (1, 2, 4):
        b.measure('tmpfs.procs.%d' % n, lambda: b.helper('churn', m, n, b.size['churn']))


# ---- mounting

@work('mount', 'umount', warm=['tree'], plain=False)
def mount(b):
    b.mount('tree', b.inputs.get('include'))
    b.stop()
    b.measure('mount', b.start, reset=b.stop)
    b.measure('umount', b.stop, reset=b.start)


@work('mount.500', 'umount.500', plain=False)
def mount_500(b):
    b.mount(*b.inputs.layers('layers500'))
    b.stop()
    b.measure('mount.500', b.start, reset=b.stop)
    b.measure('umount.500', b.stop, reset=b.start)
