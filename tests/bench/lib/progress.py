# SPDX-License-Identifier: GPL-2.0-or-later
"""What is being done, on standard error: one line that changes on a terminal, else one for each."""
import os
import sys
import time


class Progress:
    def __init__(self):
        self.out = sys.stderr
        self.terminal = self.out.isatty()
        self.begin = time.monotonic()
        self.done, self.total = 0, 0
        self.said = ''

    def seconds(self):
        return time.monotonic() - self.begin

    def clock(self):
        return '%d:%02d' % divmod(int(self.seconds()), 60)

    def step(self, text):
        self.done += 1
        self._line('[%d/%d %s] %s' % (self.done, self.total, self.clock(), text))

    def _line(self, text):
        if self.terminal:
            width = os.get_terminal_size(self.out.fileno()).columns - 1
            self.out.write('\r\033[K' + text[:width])
        else:
            self.out.write(text + '\n')
        self.said = text
        self.out.flush()

    def __call__(self, text):
        """A line that stays."""
        if self.terminal:
            self.out.write('\r\033[K' + text + '\n' + self.said)
        else:
            self.out.write(text + '\n')
        self.out.flush()

    def end(self):
        if self.terminal:
            self.out.write('\r\033[K')
            self.out.flush()
