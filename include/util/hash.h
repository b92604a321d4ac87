/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hashes of file names, which others choose. */
#pragma once

#include <stdint.h>

/*
 * SipHash under a key that each process draws for itself, so that nobody can make names that meet in
 * one place of a table. Good for as long as the process lives, and not to be stored.
 */
uint64_t un_hash_name(const char *name);
/* The same for a name and a number it belongs to. */
uint64_t un_hash_name_in(uint64_t where, const char *name);
