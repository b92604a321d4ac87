# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the work is done on: real files of this machine, and what is made from them. Each input is
made when a row first asks for it, as a directory that serves as a lower layer.
"""
import glob
import os
import random
import shutil
import subprocess

from .base import ENV, tool

# Names to take, in order of the sources; --quick takes fewer of everything.
FULL = dict(include=9200, doc=6300, python=4500, perl=3000, big_mib=1024, many=100000, append=2000,
            churn=3000, misses=5000, transactions=2000, sources=120, commits=20)
QUICK = dict(include=1500, doc=800, python=800, perl=400, big_mib=256, many=20000, append=400,
             churn=1000, misses=2000, transactions=2000, sources=40, commits=5)
LAYERS, MAX_LAYERS = 128, 500
SOURCES = {'include': ['/usr/include'], 'doc': ['/usr/share/doc'],
           'python': ['/usr/lib/python3*', '/usr/lib64/python3*'],
           'perl': ['/usr/share/perl*', '/usr/lib/*/perl*', '/usr/lib64/perl5']}


def names_below(top, most):
    """Relative names of directories, files and links, parents first; the first @most."""
    out = []
    for where, dirs, files in os.walk(top):
        dirs.sort()
        rel = os.path.relpath(where, top)
        links = [d for d in dirs if os.path.islink(os.path.join(where, d))]
        for name in ([] if rel == '.' else ['']) + sorted(files) + links:
            out.append(os.path.normpath(os.path.join(rel, name)))
            if len(out) >= most:
                return out
    return out


def copy_names(top, names, target):
    """With owners, modes, times and links."""
    os.makedirs(target, exist_ok=True)
    pack = subprocess.Popen(['tar', '-C', top, '--no-recursion', '--null', '-T', '-', '-cf', '-'],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    unpack = subprocess.Popen(['tar', '-C', target, '-xpf', '-'], stdin=pack.stdout)
    pack.stdout.close()
    pack.stdin.write(b'\0'.join(map(os.fsencode, names)))
    pack.stdin.close()
    pack.wait()                         # a socket or a vanished file is no reason to stop
    if unpack.wait():
        raise OSError('cannot copy %s' % top)


class Inputs:
    def __init__(self, scratch, quick, progress):
        self.dir = scratch + '/in'
        os.mkdir(self.dir)
        self.size = QUICK if quick else FULL
        self.progress = progress
        self.made = {}
        self.facts = {}                 # name: a few words, for the report

    def get(self, name):
        """The directory of an input."""
        if name not in self.made:
            self.progress('making input: ' + name)
            target = '%s/%s' % (self.dir, name)
            os.mkdir(target)
            self.facts[name] = getattr(self, 'make_' + name)(target)
            self.made[name] = target
        return self.made[name]

    def layers(self, name):
        top = self.get(name)
        return ['%s/%s' % (top, n) for n in sorted(os.listdir(top), key=int)]

    # ---- trees

    def _take(self, source, target):
        left = self.size[source]
        for pattern in SOURCES[source]:
            for top in sorted(glob.glob(pattern)):
                if left > 0 and os.path.isdir(top) and not os.path.islink(top):
                    names = names_below(top, left)
                    copy_names(top, names, '%s/%s/%s' % (target, source, top.strip('/').replace('/', '-')))
                    left -= len(names)
        return self.size[source] - left

    def make_empty(self, target):
        return 'nothing'

    def make_tree(self, target):
        return '%d names' % sum(self._take(s, target) for s in SOURCES)

    def make_include(self, target):
        n = self._take('include', target)
        return '%d names' % n

    def make_tar(self, target):
        tool('tar', '-C', self.get('include'), '-cf', target + '/include.tar', 'include')
        return '%d MiB' % (os.path.getsize(target + '/include.tar') >> 20)

    def make_many(self, target):
        os.mkdir(target + '/many')
        fd = os.open(target + '/many', os.O_RDONLY)
        for i in range(self.size['many']):
            os.close(os.open('entry-%06d' % i, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd))
        os.close(fd)
        return '%d entries' % self.size['many']

    # ---- layers

    def make_layers(self, target):
        """Python modules dealt out: most directories are in most layers, each file in one."""
        top, below = self.get('tree') + '/python', 0
        for n in range(LAYERS):
            os.mkdir('%s/%d' % (target, n))
        for name in names_below(top, 1 << 20):
            source = os.path.join(top, name)
            if os.path.isdir(source) and not os.path.islink(source):
                continue
            copy = '%s/%d/%s' % (target, below % LAYERS, name)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
            below += 1
        return '%d layers, %d files' % (LAYERS, below)

    def make_layers500(self, target):
        for n in range(MAX_LAYERS):
            os.makedirs('%s/%d/dir' % (target, n))
            with open('%s/%d/dir/file%d' % (target, n, n), 'w') as f:
                f.write('%d\n' % n)
        return '%d layers' % MAX_LAYERS

    # ---- single files and programs' data

    def make_big(self, target):
        block = random.Random(1).randbytes(1 << 20)
        with open(target + '/big', 'wb') as f:
            for i in range(self.size['big_mib']):
                f.write(i.to_bytes(8, 'little') + block[8:])
        return '%d MiB' % self.size['big_mib']

    def make_db(self, target):
        n = self.size['transactions']
        schema = 'pragma journal_mode=wal; create table t(k integer primary key, v text);'
        tool('sqlite3', target + '/bench.db', schema)
        rows = ''.join("insert into t(v) values('%s');\n" % ('row %06d ' % i * 12) for i in range(n))
        with open(target + '/fill.sql', 'w') as f:
            f.write('begin;\n' + rows + 'commit;\n')
        with open(target + '/fill.sql') as f:
            tool('sqlite3', target + '/bench.db', stdin=f)
        with open(target + '/work.sql', 'w') as f:
            f.write('pragma synchronous=normal;\n' + rows)
        return '%d transactions' % n

    def make_project(self, target):
        n = self.size['sources']
        os.mkdir(target + '/project')
        objects = ' '.join('f%03d.o' % i for i in range(n))
        for i in range(n):
            body = ''.join('int f%03d_%d(int x) { char b[64]; snprintf(b, sizeof(b), "%%d", x * %d); '
                           'return (int)strlen(b) + x; }\n' % (i, j, j + i) for j in range(20))
            with open('%s/project/f%03d.c' % (target, i), 'w') as f:
                f.write('#include "all.h"\n#include <stdio.h>\n#include <stdlib.h>\n'
                        '#include <string.h>\n#include <sys/stat.h>\n' + body)
        with open(target + '/project/main.c', 'w') as f:
            f.write('#include "all.h"\nint main(void) { return %s; }\n' %
                    ' + '.join('f%03d_0(1)' % i for i in range(n)))
        with open(target + '/project/all.h', 'w') as f:
            f.write(''.join('int f%03d_0(int x);\n' % i for i in range(n)))
        with open(target + '/project/Makefile', 'w') as f:
            f.write('CFLAGS = -O1\nprogram: main.o %s\n\t$(CC) -o $@ $^\n%%.o: %%.c all.h\n'
                    '\t$(CC) $(CFLAGS) -c -o $@ $<\nclean:\n\trm -f *.o program\n' % objects)
        return '%d C files' % (n + 1)

    def make_repo(self, target):
        """Bare, packed; `other` differs from `main` in a third of the files."""
        tree = target + '/tree'
        shutil.copytree(self.get('include') + '/include', tree, symlinks=True)
        files = [f for f in names_below(tree, 1 << 20) if os.path.isfile(os.path.join(tree, f))]

        def git(*argv):
            subprocess.run(['git', '-C', tree] + list(argv), env=ENV, check=True,
                           stdout=subprocess.DEVNULL)

        def commit(some, message):
            for name in some:
                path = os.path.join(tree, name)
                if not os.path.islink(path):
                    with open(path, 'a') as f:
                        f.write('/* %s */\n' % message)
            git('add', '-A', '-f')
            git('commit', '-q', '-m', message)

        git('init', '-q', '-b', 'main')
        commit([], 'all')
        for i in range(self.size['commits']):
            commit(files[i::97], 'change %d' % i)
        git('checkout', '-q', '-b', 'other')
        commit(files[::3], 'other')
        git('checkout', '-q', 'main')
        git('repack', '-q', '-a', '-d')
        git('clone', '-q', '--bare', tree, target + '/repo.git')
        shutil.rmtree(tree)
        return '%d files, %d commits' % (len(files), self.size['commits'] + 2)
