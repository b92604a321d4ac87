# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures as a picture: seconds relative to the kernel's overlayfs on a logarithmic scale."""
import html
import math
import os
import shutil
import subprocess

LEFT, RIGHT, TOP, BOTTOM, ROW, WIDTH = 340, 40, 92, 46, 19, 1040
MARKS = {'ext4': '#9aa0a6', 'fuse-overlayfs': '#d9822b', 'fuse-unionfs': '#1f6feb'}
LIMIT = '#c62828'
LEAST, MOST = 1 / 8, 64


def points(entries):
    """Lines of the table that can be compared with the kernel's overlayfs."""
    out = []
    for e in entries:
        kernel = e['fs'].get('kernel', {}).get('seconds')
        if kernel and 'fuse-unionfs' in e['fs']:
            label = e['title'] + (', ' + e['line'] if e['line'] else '')
            out.append((label, {fs: v['seconds'] / kernel for fs, v in e['fs'].items() if fs in MARKS},
                        e.get('limit'), bool(e['missed'])))
    return out


class Picture:
    def __init__(self, rows):
        self.rows = rows
        seen = [v for _, at, _, _ in rows for v in at.values()]
        low = min([1 / 2] + seen)
        high = max([4] + seen)
        self.low = 2 ** math.floor(math.log2(max(low, LEAST)))
        self.high = 2 ** math.ceil(math.log2(min(high, MOST)))
        self.height = TOP + ROW * len(rows) + BOTTOM
        self.out = []

    def x(self, ratio):
        ratio = min(max(ratio, self.low), self.high)
        share = math.log(ratio / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def add(self, name, text=None, **attributes):
        said = ''.join(' %s="%s"' % (n.replace('_', '-').strip('-'),
                                     '%.1f' % v if isinstance(v, float) else v)
                       for n, v in attributes.items())
        self.out.append('<%s%s%s' % (name, said, '/>' if text is None else
                                     '>%s</%s>' % (html.escape(text), name)))

    def text(self, x, y, said, size=12, anchor='start', fill='#202124'):
        self.add('text', said, x=x, y=y, font_size=size, text_anchor=anchor, fill=fill)

    def mark(self, fs, x, y):
        if fs == 'fuse-unionfs':
            self.add('circle', cx=x, cy=y, r=5, fill=MARKS[fs])
        elif fs == 'fuse-overlayfs':
            self.add('rect', x=x - 4.5, y=y - 4.5, width=9, height=9, fill=MARKS[fs])
        else:
            self.add('path', d='M%.1f %.1f l4 4 l-4 4 l-4 -4 z' % (x, y - 4), fill=MARKS[fs])

    def legend(self):
        self.text(16, 28, "Time taken, relative to the kernel's overlayfs (left is faster)", 17)
        x = 16
        for fs, words in (('fuse-unionfs', 'fuse-unionfs'), ('fuse-overlayfs', 'fuse-overlayfs'),
                          ('ext4', 'plain ext4')):
            self.mark(fs, x + 5, 50)
            self.text(x + 16, 54, words, 13)
            x += 40 + 8 * len(words)
        self.add('rect', x=x + 3, y=43, width=2.5, height=14, fill=LIMIT)
        self.text(x + 14, 54, 'limit for fuse-unionfs; the names of rows that miss one are red', 13)

    def grid(self):
        bottom = self.height - BOTTOM
        step = self.low
        while step <= self.high:
            x = self.x(step)
            self.add('line', x1=x, x2=x, y1=TOP - 8, y2=bottom, stroke='#202124' if step == 1 else '#e0e0e0',
                     stroke_width=1.5 if step == 1 else 1)
            said = '%gx' % step if step >= 1 else '1/%dx' % round(1 / step)
            for y in (TOP - 14, bottom + 18):
                self.text(x, y, said, 11, 'middle', '#5f6368')
            step *= 2

    def row(self, n, label, at, limit, missed):
        y = TOP + ROW * n + ROW / 2
        if n % 2 == 0:
            self.add('rect', x=0, y=y - ROW / 2, width=WIDTH, height=ROW, fill='#f6f8fa')
        self.later.append(lambda: self.row_marks(y, label, at, limit, missed))

    def row_marks(self, y, label, at, limit, missed):
        self.text(LEFT - 14, y + 4, label, 12, 'end', LIMIT if missed else '#202124')
        both = [self.x(at[fs]) for fs in ('fuse-overlayfs', 'fuse-unionfs') if fs in at]
        if len(both) == 2:
            self.add('line', x1=both[0], x2=both[1], y1=y, y2=y, stroke='#bdc1c6', stroke_width=1.5)
        if limit:
            self.add('rect', x=self.x(limit) - 1.25, y=y - 7, width=2.5, height=14, fill=LIMIT)
        for fs in ('ext4', 'fuse-overlayfs', 'fuse-unionfs'):
            if fs in at:
                self.mark(fs, self.x(at[fs]), y)

    def svg(self, footer):
        self.later = []
        for n, r in enumerate(self.rows):
            self.row(n, *r)
        self.grid()                         # above the stripes, below the marks
        for draw in self.later:
            draw()
        self.legend()
        self.text(16, self.height - 10, footer, 11, fill='#5f6368')
        return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" '
                'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">\n'
                '<rect width="100%%" height="100%%" fill="#ffffff"/>\n%s\n</svg>\n' %
                (WIDTH, self.height, WIDTH, self.height, '\n'.join(self.out)))


def to_png(svg, png):
    """True when a program that can draw it was found."""
    for argv in (['rsvg-convert', '-z', '1.6', '-o', png, svg], ['magick', svg, png],
                 ['convert', svg, png], ['inkscape', svg, '-o', png]):
        if shutil.which(argv[0]):
            p = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if p.returncode == 0 and os.path.exists(png) and os.path.getsize(png):
                return True
    return False


def write(data, base):
    """BASE.svg and BASE.png; says what was written."""
    rows = points(data['rows'])
    if not rows:
        return 'nothing to plot: no row was measured on both kernel and fuse-unionfs'
    m = data['machine']
    footer = 'kernel %s, %d CPUs; rounds: %d (medians); logarithmic' % (m['kernel'], m['cpus'], data['rounds'])
    os.makedirs(os.path.dirname(os.path.abspath(base)), exist_ok=True)
    with open(base + '.svg', 'w') as f:
        f.write(Picture(rows).svg(footer))
    if to_png(base + '.svg', base + '.png'):
        return 'plot: %s.svg, %s.png' % (base, base)
    return 'plot: %s.svg (no PNG: install rsvg-convert or ImageMagick)' % base
