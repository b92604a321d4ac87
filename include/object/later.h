/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What nobody waits for, and what may take long, since a layer may not answer: closing a file there, taking a watch
 * off. One thread does all of it, one after the other; it is there while there is something to do.
 */
#pragma once

struct un_fs;

typedef void (*un_later_fn)(struct un_fs *fs, void *data);

void un_later_init(struct un_fs *fs);
/* No request is served any more, and un_fs_on_later() has taken its thread away. */
void un_later_done(struct un_fs *fs);
/* Calls @fn soon, on that thread; or at once, where there is none. Any lock may be held that @fn does not need. */
void un_later(struct un_fs *fs, un_later_fn fn, void *data);
