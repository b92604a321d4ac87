#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian root as lower: chroot into the union, install and remove a package with several hundred
files, verify, and find the lower byte for byte as it was.

    debian_root.py [--suite bookworm] [--binary build/fuse-unionfs]     the test
    debian_root.py --tree SUITE        only make the cached tree and print its path

The tree is made by debootstrap with the mirror of the host's apt configuration and cached under
~/.cache/fuse-unionfs; without network or debootstrap the test is skipped.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

from lib import kernel as k                 # noqa: E402
from lib import tree                        # noqa: E402

PACKAGE = 'python3-minimal'                 # several hundred files with what it needs
CACHE = os.path.join(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'fuse-unionfs')


class Skip(Exception):
    pass


def mirror():
    """The first archive that is not for security updates only."""
    for path in sorted(glob.glob('/etc/apt/sources.list') + glob.glob('/etc/apt/sources.list.d/*.list') +
                       glob.glob('/etc/apt/sources.list.d/*.sources')):
        with open(path) as f:
            said = f.read()
        if path.endswith('.sources'):
            for stanza in re.split(r'\n\s*\n', said):
                uris = re.search(r'^URIs:\s*(\S+)', stanza, re.M)
                suites = re.search(r'^Suites:\s*(.+)$', stanza, re.M)
                if uris and suites and re.search(r'(^|\s)(bookworm|trixie|stable|testing|sid)(\s|$)', suites[1]):
                    return uris[1]
        else:
            m = re.search(r'^deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(?:bookworm|trixie|stable|testing|sid)\s', said, re.M)
            if m:
                return m[1]
    raise Skip('no Debian mirror in the apt configuration')


def environment():
    """debootstrap fetches by itself: give it apt's proxy."""
    env = dict(os.environ, LC_ALL='C', DEBIAN_FRONTEND='noninteractive')
    out = subprocess.run(['apt-config', 'shell', 'P', 'Acquire::http::Proxy'], stdout=subprocess.PIPE, text=True)
    m = re.search(r"P='([^']+)'", out.stdout)
    if m and m[1] != 'DIRECT':
        env.setdefault('http_proxy', m[1])
    return env


def make_tree(suite):
    """Path of a minimal tree of @suite, from the cache or made now."""
    if os.geteuid() != 0:
        raise Skip('needs root')
    if not shutil.which('debootstrap'):
        raise Skip('debootstrap is missing')
    where = os.path.join(CACHE, suite)
    if os.path.exists(where + '/.complete'):
        return where
    where_from = mirror()
    os.makedirs(CACHE, exist_ok=True)
    shutil.rmtree(where, ignore_errors=True)
    cmd = ['debootstrap', '--variant=minbase', suite, where, where_from]
    if not os.path.exists('/usr/share/debootstrap/scripts/' + suite):
        cmd.append('/usr/share/debootstrap/scripts/sid')
    p = subprocess.run(cmd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        shutil.rmtree(where, ignore_errors=True)
        raise Skip('debootstrap %s failed: %s' % (suite, p.stdout.strip().split('\n')[-1]))
    open(where + '/.complete', 'w').close()
    return where


def host_apt(root):
    """What the chroot needs to reach the mirror: names, proxies, certificates."""
    for path in ['/etc/resolv.conf', '/etc/hosts'] + glob.glob('/etc/apt/apt.conf.d/*proxy*'):
        if os.path.exists(path):
            to = root + path
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if os.path.lexists(to):
                os.unlink(to)
            shutil.copyfile(path, to)


def chroot(root, *cmd):
    """Run in the union with /proc and /dev bound; its output, or an exception with it."""
    p = subprocess.run(['chroot', root] + list(cmd), env=environment() | {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin'},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        raise AssertionError('%s: status %d\n%s' % (' '.join(cmd), p.returncode, p.stdout[-4000:]))
    return p.stdout


def binds(root, mounted):
    for d in ('proc', 'dev'):
        k.mount('/' + d, root + '/' + d, None, k.MS_BIND | k.MS_REC)
        mounted.append(root + '/' + d)


def check(binary, suite, work):
    lower = make_tree(suite)
    before = tree.snapshot(lower)
    mnt, upper, wd = (os.path.join(work, n) for n in ('mnt', 'upper', 'work'))
    for d in (mnt, upper, wd):
        os.mkdir(d)
    log = open(work + '/log', 'w')
    daemon = subprocess.Popen([binary, '-f', '-o', 'lowerdir=%s,upperdir=%s,workdir=%s' % (lower, upper, wd), mnt],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    mounted = []
    try:
        while not k.mounted_at(mnt):
            if daemon.poll() is not None:
                raise AssertionError('mount failed: ' + open(work + '/log').read())
            time.sleep(0.02)
        binds(mnt, mounted)
        host_apt(mnt)
        try:
            chroot(mnt, 'apt-get', 'update', '-q')
        except AssertionError as e:
            raise Skip('no network: ' + str(e).strip().split('\n')[-1])
        chroot(mnt, 'apt-get', 'install', '-qy', '--no-install-recommends', PACKAGE)
        count = int(chroot(mnt, "sh", "-c",
                           "dpkg -L $(dpkg-query -W -f '${binary:Package}\\n' | grep python3) | sort -u | wc -l"))
        if count < 300:
            raise AssertionError('only %d files installed' % count)
        said = chroot(mnt, 'python3', '-c', 'import re, sys; print(sys.version_info[0])').strip()
        if said != '3':
            raise AssertionError('the installed python says %r' % said)
        verified = chroot(mnt, 'dpkg', '--verify').strip()
        if verified:
            raise AssertionError('dpkg --verify:\n' + verified)
        chroot(mnt, 'apt-get', 'purge', '-qy', '--auto-remove', PACKAGE)
        verified = chroot(mnt, 'dpkg', '--verify').strip()
        if verified:
            raise AssertionError('dpkg --verify after removal:\n' + verified)
        if os.path.lexists(mnt + '/usr/bin/python3'):
            raise AssertionError('/usr/bin/python3 is left')
        while mounted:
            k.umount(mounted.pop(), k.MNT_DETACH)
        k.umount(mnt)
        if daemon.wait(60):
            raise AssertionError('the daemon ended with %d: %s' % (daemon.returncode, open(work + '/log').read()))
        changed = tree.difference(before, tree.snapshot(lower))
        if changed:
            raise AssertionError('the lower changed:\n' + '\n'.join(changed[:20]))
        return count
    finally:
        while mounted:
            k.umount(mounted.pop(), k.MNT_DETACH)
        if k.mounted_at(mnt):
            k.umount(mnt, k.MNT_DETACH)
        if daemon.poll() is None:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--suite', default='bookworm')
    p.add_argument('--binary', default=os.environ.get('UNIONFS') or os.path.join(HERE, '../../build/fuse-unionfs'))
    p.add_argument('--tree', metavar='SUITE')
    a = p.parse_args()
    try:
        if a.tree:
            print(make_tree(a.tree))
            return 0
        if os.geteuid() != 0:
            raise Skip('needs root')
        k.private_namespace()
        work = tempfile.mkdtemp(prefix='unionfs-debian-', dir=os.environ.get('TMPDIR') or '/var/tmp')
        try:
            count = check(os.path.realpath(a.binary), a.suite, work)
            print('PASS debian_root %s: %d files installed and removed' % (a.suite, count))
            print('1 passed, 0 failed, 0 skipped')
            return 0
        finally:
            subprocess.run(['rm', '-rf', '--one-file-system', work])
    except Skip as e:
        if a.tree:
            sys.exit('debian_root: %s' % e)
        print('SKIP debian_root: %s' % e)
        print('0 passed, 0 failed, 1 skipped')
        return 0
    except AssertionError as e:
        print('FAIL debian_root: %s' % e)
        print('0 passed, 1 failed, 0 skipped')
        return 1


if __name__ == '__main__':
    sys.exit(main())
