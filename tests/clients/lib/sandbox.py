# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds of a plain user on a union: through fusermount3, in a user namespace, in bubblewrap."""
import os
import shutil

from . import inputs
from .room import Skip

# What a build does, each on the union at $M; lower files are in $M/low. No network.
WORK = {
    'git': (('git',), r'''
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
cd $M; git clone -q low/repo copy; cd copy; git fsck --strict; git gc -q; git fsck
echo x > new; git add .; git commit -qm x; git checkout -q -b other HEAD~2; git merge -q --no-edit master
git gc -q --aggressive --prune=now; git fsck; test -z "$(git status --porcelain)"
cd ../low/repo; test -z "$(git status --porcelain)"; echo y >> f1; git commit -qam y; git gc -q; git fsck
git worktree add -q ../../tree HEAD~1; git worktree remove ../../tree; git stash list; rm -rf d3; git checkout -q .
test -z "$(git status --porcelain)"'''),
    'make': (('make', 'cc'), r'''
cd $M/low/src; make -s -j4; ./prog | grep -qx 'sum 45'; make -s -q
touch f3.c; make -s -j4; make -s -q; cp -r . ../src2; cd ../src2; make -s clean; make -s -j4; ./prog; mv ../src ../old; make -s -q'''),
    'npm': (('npm',), r'''
cd $M/low/app; export npm_config_cache=$M/npm npm_config_offline=true npm_config_audit=false npm_config_fund=false npm_config_update_notifier=false
npm install --silent ../one.tgz ../two.tgz; node -e "if (require('two') != 'two of one') process.exit(1)"
node_modules/.bin/one | grep -qx one; rm -rf node_modules; npm ci --silent; node_modules/.bin/one; npm uninstall --silent one; test ! -e node_modules/one'''),
    'python venv': (('/usr/bin/python3',), r'''
cd $M; /usr/bin/python3 -m venv low/venv; . low/venv/bin/activate; python -m pip --version
python -c 'import sys; assert sys.prefix.endswith("low/venv"), sys.prefix'
python -m compileall -q -f low/venv/lib; /usr/bin/python3 -m venv --clear low/venv; low/venv/bin/python -m pip list'''),
    'sqlite, two writers': (('sqlite3',), r'''
cd $M/low; for mode in delete wal; do
  sqlite3 db "pragma journal_mode=$mode; delete from t;" > /dev/null
  for w in 1 2; do
    (for i in $(seq 60); do echo ".timeout 20000
insert into t values ($w, $i, hex(randomblob(500)));"; done | sqlite3 -bail db) & pids="${pids-} $!"
  done
  for p in $pids; do wait $p; done; pids=
  test "$(sqlite3 db 'select count(*) from t; pragma integrity_check')" = "120
ok"
done'''),
    'tar and rm': (('tar',), r'''
cd $M; cp -a low again; tar -C again -cf t.tar .; mkdir out; tar -C out -xpf t.tar; diff -r --no-dereference again out; rm -r again out t.tar
mv low moved; mkdir low; test -z "$(ls -A low)"; rmdir low; mv moved low; ls low/src'''),
}
DPKG_PLAIN = r'''
cd $M; mkdir -p root/var/lib/dpkg/updates root/var/lib/dpkg/info; touch root/var/lib/dpkg/status
dpkg --force-not-root --force-script-chrootless --force-bad-path --log=/dev/null --root=$M/root --unpack $DIR/hello.deb
$M/root/usr/bin/hello-union | grep -qx hello; dpkg --root=$M/root --verify; test -s $M/root/var/lib/dpkg/info/hello-union.list'''
DPKG_CHROOT = r'''
cp $DIR/hello.deb $M/tmp/; export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/tmp
chroot $M dpkg -i /tmp/hello.deb; chroot $M hello-union | grep -qx hello; chroot $M dpkg --verify hello-union
test "$(cat $M/var/lib/hello-union)" = configured; echo c=d > $M/etc/hello.conf
chroot $M dpkg --force-confold -i /tmp/hello.deb; test "$(cat $M/etc/hello.conf)" = c=d
chroot $M dpkg -P hello-union; test ! -e $M/usr/bin/hello-union; test ! -e $M/etc/hello.conf
chroot $M dpkg --force-all -r login 2>&1; test ! -e $M/bin/login; chroot $M dpkg --audit > /dev/null'''

LOWER = r'''
mkdir -p lower/low; cd lower/low
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b master repo; (cd repo; for c in 1 2 3 4 5; do for i in 1 2 3 4 5 6 7 8 9; do mkdir -p d$i; echo $c $i > d$i/f; echo $c > f$i; done
git add .; git commit -qm $c; done; git gc -q)
mkdir src; (cd src
for i in 0 1 2 3 4 5 6 7 8 9; do echo "int f$i(void) { return $i; }" > f$i.c; done
{ echo '#include <stdio.h>'; for i in 0 1 2 3 4 5 6 7 8 9; do echo "int f$i(void);"; done
  echo 'int main(void) { printf("sum %d\n", f0()+f1()+f2()+f3()+f4()+f5()+f6()+f7()+f8()+f9()); }'; } > main.c
printf 'O = main.o f0.o f1.o f2.o f3.o f4.o f5.o f6.o f7.o f8.o f9.o\nprog: $(O)\n\t$(CC) -o $@ $(O)\nclean:\n\trm -f prog $(O)\n' > Makefile)
mkdir app; echo '{"name":"app","version":"1.0.0"}' > app/package.json
for p in one two; do mkdir -p tmp/package; echo "module.exports = '$p'" > tmp/package/index.js
  echo "{\"name\":\"$p\",\"version\":\"1.0.0\",\"bin\":{\"$p\":\"cli.js\"}}" > tmp/package/package.json
  printf '#!/usr/bin/env node\nconsole.log("%s")\n' $p > tmp/package/cli.js
  test $p = two && echo "module.exports = 'two of ' + require('one')" > tmp/package/index.js
  tar -C tmp -czf $p.tgz package; rm -r tmp; done
mkdir venv; echo stale > venv/stale
sqlite3 db 'create table t (w, i, s); insert into t values (0, 0, 0)'
'''


def run(room):
    inputs.package(room)
    missing = [t for t in ('git', 'sqlite3') if not shutil.which(t)]
    if missing:
        raise Skip('%s missing' % ', '.join(missing))
    room.sh(LOWER)
    plain(room)
    namespace(room)
    bubblewrap(room)
    chroot(room)
    one_id(room)
    cycles(room)
    examples(room)


def wrap(before, work, after):
    """Set up and work in one shell; unmounted whatever happened, the status is that of the work."""
    return '%s\nset +e; ( set -e\n%s\n)\nstatus=$?; set -e\n%s\nexit $status' % (before, work, after)


LAYERS = 'rm -rf up wk mnt; mkdir up wk mnt; export M=$PWD/mnt'
MOUNT = '"$PROGRAM" -o lowerdir=$PWD/lower,upperdir=$PWD/up,workdir=$PWD/wk%s mnt'


def each(room, how, before, after='', inner=None, more=()):
    """Every piece of work, each on a fresh union."""
    for name, (needs, work) in list(WORK.items()) + list(more):
        script = wrap(before, work, after) if inner is None else before + '\n' + inner(work) + '\n' + after
        room.step('%s: %s' % (how, name), script, limit=180, needs=needs)
        room.sh('fusermount3 -uq mnt || true; chmod -R u+rwX up wk 2>/dev/null; rm -rf up wk')


def plain(room):
    """No user namespace: the set-uid fusermount3 mounts."""
    each(room, 'plain user', LAYERS + '\n' + MOUNT % '', 'cd; fusermount3 -u mnt',
         more=[('dpkg unpack', (('dpkg',), DPKG_PLAIN))])
    room.step('plain user: nothing left', room.nothing_left)


def namespace(room):
    """Root of a namespace with one id; the daemon mounts by itself."""
    def inner(work):
        return 'cat > work.sh <<"END"\nset -u\n%s\nEND\nunshare -Urm bash -ec ". ./work.sh"' % wrap(MOUNT % '', work, 'cd; umount mnt')
    each(room, 'user namespace', LAYERS, inner=inner, more=[('dpkg unpack', (('dpkg',), DPKG_PLAIN))])
    room.step('user namespace: nothing left', room.nothing_left)


def bubblewrap(room):
    """The union, mounted by fusermount3, is all that can be written in the sandbox."""
    def inner(work):
        return ('cat > work.sh <<"END"\nset -eu\n%s\nEND\n' % work) + \
            'bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --setenv TMPDIR /tmp --bind "$M" "$M" ' \
            '--setenv HOME "$M" --unshare-all --die-with-parent bash -e "$PWD/work.sh"'
    room.step('bwrap: works here', 'bwrap --ro-bind / / --unshare-all true', needs=('bwrap',))
    if room.prefix + 'bwrap: works here' not in room.passed:
        return
    each(room, 'bwrap', LAYERS + '\n' + MOUNT % '', 'cd; fusermount3 -u mnt', inner=inner)
    room.step('bwrap: nothing left', room.nothing_left)


def chroot(room):
    """A Debian tree as lower of a namespace with 65536 ids: dpkg in a chroot."""
    tar = inputs.debian(room)
    enter = 'unshare --map-root-user --map-auto -m bash -euc '
    room.step('chroot: unpack', enter + "'mkdir tree; tar --xattrs -C tree -xpf %s --exclude=./dev/*'" % tar, limit=300, needs=('newuidmap',))
    room.step('chroot: dpkg', LAYERS.replace('export', 'export DIR;export') + r'''
cat > work.sh <<"END"
set -eu
%s
for d in null zero urandom; do touch mnt/dev/$d; mount --bind /dev/$d mnt/dev/$d; done; mount --rbind /proc mnt/proc
%s
umount -R mnt
END
%s' . ./work.sh; rm -rf up wk' ''' % (MOUNT.replace('lower,', 'tree,') % '', DPKG_CHROOT, enter), limit=300, after=('chroot: unpack',))
    room.sh(enter + "'rm -rf tree up wk'")
    room.step('chroot: nothing left', room.nothing_left)


def one_id(room):
    """A Debian tree that is root's, changed by a plain user in a namespace with one id."""
    tree = room.path('roots')
    room.sh('mkdir %s; tar --xattrs -C %s -xpf %s --exclude=./dev/*' % (tree, tree, inputs.debian(room)), limit=300, user=False)
    room.step('one id, squash_to_root: dpkg and apt', LAYERS.replace('export', 'export DIR;export') + r'''
cat > work.sh <<"END"
set -eu
%s
for d in null zero urandom; do touch mnt/dev/$d; mount --bind /dev/$d mnt/dev/$d; done
%s
chroot $M apt-get -o APT::Sandbox::User=root install -y /tmp/hello.deb; chroot $M hello-union | grep -qx hello
chroot $M apt-get -o APT::Sandbox::User=root remove -y hello-union; test ! -e $M/usr/bin/hello-union
rm -r $M/usr/share/doc/apt; mv $M/usr/share/info $M/usr/share/moved; chmod 600 $M/etc/passwd; echo x >> $M/etc/passwd
umount -R mnt
END
unshare -Urm bash -euc '. ./work.sh'; rm -rf up wk''' % (MOUNT.replace('$PWD/lower', tree) % ',squash_to_root', DPKG_CHROOT), limit=300)
    room.sh('rm -r ' + tree, user=False)
    room.step('one id: nothing left', room.nothing_left)


def cycles(room):
    """Mount and unmount 100 times, as a plain user and in a namespace; then kill a sandbox."""
    loop = 'for i in $(seq 100); do %s; echo $i > mnt/n; test "$(cat mnt/n)" = $i; %s; test ! -e mnt/n; done'
    room.step('100 mounts', LAYERS + '\n' + loop % (MOUNT % '', 'fusermount3 -u mnt'), limit=200)
    room.step('100 mounts: nothing left', room.nothing_left, after=('100 mounts',))
    room.step('100 mounts in a namespace', LAYERS + '\ncat > work.sh <<"END"\n' + loop % (MOUNT % '', 'umount mnt') +
              '\nEND\nunshare -Urm bash -euc ". ./work.sh"', limit=200)
    room.step('100 mounts in a namespace: nothing left', room.nothing_left)
    write = '\ncat > work.sh <<"END"\n' + MOUNT % '' + '\n%s\nEND\n'
    room.step('a killed sandbox', LAYERS + write % 'while :; do echo x > mnt/f; rm mnt/f; done' +
              'unshare -Urmpf --kill-child bash -euc ". ./work.sh" & sleep 1; kill -KILL $!; wait $! || true')
    room.step('a killed sandbox: nothing left', room.nothing_left)
    room.step('a namespace that ends without unmounting', LAYERS + write % 'echo x > mnt/f' +
              'unshare -Urm bash -euc ". ./work.sh"')
    room.step('a namespace that ends without unmounting: nothing left', room.nothing_left,
              known='the daemon keeps its own mount namespace, and so the mount, alive')
    room.end_daemons()


def examples(room):
    """What contrib/examples has, and the command line of containerd's snapshotter."""
    shutil.copytree(os.path.join(os.path.dirname(os.path.realpath(__file__)), '../../../contrib/examples'),
                    room.path('examples'))
    for name, needs in (('sandbox-bwrap', ('bwrap',)), ('sandbox-unshare', ())):
        room.step('example: ' + name, r'''
export FUSE_UNIONFS=$PROGRAM; rm -rf proj kept; mkdir proj; echo one > proj/a; echo two > proj/b
%(name)s proj sh -euc 'rm a; echo x > c; test "$(ls | tr "\n" " ")" = "b c "'; test "$(ls proj | tr '\n' ' ')" = "a b "
UPPER=$PWD/kept %(name)s proj sh -c 'echo y > b'; test "$(cat kept/b proj/b | tr '\n' ' ')" = "y two "
status=0; %(name)s proj sh -c 'exit 3' || status=$?; test $status = 3''' % {'name': room.path('examples', name)}, needs=needs)
    room.step('examples: nothing left', room.nothing_left)
    room.step('mount.fuse3, as containerd calls it', r'''
mkdir -p c/bin c/l1 c/l2 c/u c/w c/m; ln -sf "$PROGRAM" c/bin/fuse-overlayfs; echo 1 > c/l1/f; echo 2 > c/l2/g
export PATH=$PWD/c/bin:$PATH
mount.fuse3 overlay c/m -o lowerdir=$PWD/c/l1:$PWD/c/l2 -t fuse-overlayfs; ls c/m | grep -x g; umount c/m
mount.fuse3 overlay c/m -o workdir=$PWD/c/w,upperdir=$PWD/c/u,lowerdir=$PWD/c/l1:$PWD/c/l2,dev,suid -t fuse-overlayfs
echo 3 >> c/m/f; umount c/m; test "$(cat c/l1/f c/u/f | tr '\n' ' ')" = "1 1 3 "''', user=False, needs=('mount.fuse3',))
    room.step('mount.fuse3: nothing left', room.nothing_left)
    completion(room)


def completion(room):
    """Every option in the help text can be completed."""
    def check():
        if os.path.basename(room.program) != 'fuse-unionfs':
            raise Skip('not our program')
        room.sh(r'''
set +ex; . %s
names=$(_fuse_unionfs_options "$PROGRAM")
for o in lowerdir= upperdir= workdir= lowerdir+= metacopy=off redirect_dir=off index=on noatime ro fsync=strict userxattr threads= debug; do
  grep -qxF -- "$o" <<< "$names" || { echo "missing: $o"; exit 1; }
done
try() { COMP_LINE="fuse-unionfs -o $1" COMP_POINT=${#1}; COMP_POINT=$((COMP_POINT + 16)); COMP_WORDS=("$PROGRAM" -o "$2") COMP_CWORD=2
  COMPREPLY=(); _fuse_unionfs; test "${COMPREPLY[*]}" = "$3" || { echo "$1: ${COMPREPLY[*]}, expected $3"; exit 1; }; }
try upp upp upperdir=; try lowerdir=/usr,upp /usr,upp /usr,upperdir=; try lowerdir=/us /us /usr/
try lowerdir=/usr:/us /us /usr/; try metacopy= = 'off on'; try ro,noat ro,noat ro,noatime''' % room.path('examples/../completion.bash'))
    shutil.copy(os.path.join(os.path.dirname(os.path.realpath(__file__)), '../../../contrib/completion.bash'), room.dir)
    room.step('bash completion', check)
