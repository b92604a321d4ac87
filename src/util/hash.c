/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/hash.h"

#include <linux/limits.h>
#include <pthread.h>
#include <sodium/crypto_shorthash.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>

static unsigned char key[crypto_shorthash_KEYBYTES];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

/*
 * Early at boot (the root of a live medium) nobody can wait for good random numbers; what the kernel
 * gave the process at its start is then as good as it gets.
 */
static void draw_key(void)
{
	const void *start = (const void *)getauxval(AT_RANDOM);

	if (getrandom(key, sizeof(key), GRND_NONBLOCK) != sizeof(key) && start)
		memcpy(key, start, sizeof(key));
}

static uint64_t hash(const void *data, size_t len)
{
	uint64_t h;

	_Static_assert(crypto_shorthash_BYTES == sizeof(h), "SipHash gives 64 bits");
	pthread_once(&key_once, draw_key);
	crypto_shorthash((unsigned char *)&h, data, len, key);
	return h;
}

uint64_t un_hash_name(const char *name)
{
	return hash(name, strlen(name));
}

uint64_t un_hash_name_in(uint64_t where, const char *name)
{
	unsigned char buf[sizeof(where) + NAME_MAX];
	size_t len = strnlen(name, NAME_MAX);

	memcpy(buf, &where, sizeof(where));
	memcpy(buf + sizeof(where), name, len);
	return hash(buf, sizeof(where) + len);
}
