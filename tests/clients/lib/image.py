# SPDX-License-Identifier: GPL-2.0-or-later
"""What an image holds: its layers as lists of entries, compared one by one."""
import hashlib
import json
import tarfile

KIND = {tarfile.REGTYPE: 'file', tarfile.LNKTYPE: 'hard link', tarfile.SYMTYPE: 'symlink', tarfile.DIRTYPE: 'dir',
        tarfile.FIFOTYPE: 'fifo', tarfile.CHRTYPE: 'char', tarfile.BLKTYPE: 'block'}


def entry(tar, m, since):
    """Everything a header says, and a digest of the data. Times since the test began are all 'now'."""
    digest = None
    if m.isreg():
        digest = hashlib.sha256(tar.extractfile(m).read()).hexdigest()[:16]
    return {'kind': KIND.get(m.type, m.type), 'mode': oct(m.mode), 'owner': (m.uid, m.gid), 'size': m.size,
            'link': m.linkname, 'device': (m.devmajor, m.devminor) if m.isdev() else None, 'data': digest,
            'mtime': 'now' if m.mtime >= since else m.mtime,
            'xattrs': {k: v for k, v in sorted(m.pax_headers.items()) if 'xattr' in k}}


def layers(path, since):
    """The layers of a docker archive, lowest first: {name: entry}."""
    out = []
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile('manifest.json'))
        for name in manifest[0]['Layers']:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                out.append({m.name: entry(layer, m, since) for m in layer})
    return out


def difference(a, b):
    """Lines of text: where the layers @a and @b differ."""
    said = []
    if len(a) != len(b):
        said.append('%d layers, expected %d' % (len(a), len(b)))
    for i, (x, y) in enumerate(zip(a, b)):
        for name in sorted(x.keys() | y.keys()):
            if name not in x:
                said.append('layer %d: no %s (%s)' % (i, name, y[name]['kind']))
            elif name not in y:
                said.append('layer %d: %s (%s) too much' % (i, name, x[name]['kind']))
            else:
                said += ['layer %d: %s: %s %s, expected %s' % (i, name, k, x[name][k], y[name][k])
                         for k in x[name] if x[name][k] != y[name][k]]
    return said
