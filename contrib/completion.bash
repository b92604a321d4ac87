# shellcheck shell=bash
# Bash completion for fuse-unionfs: copy to /usr/share/bash-completion/completions/fuse-unionfs, or
# `source` it. The options come from `fuse-unionfs --help`, so they are those of the installed version.

_fuse_unionfs_options() { # every name in the lists of the help text, with = where it takes a value
	"$1" --help 2>/dev/null | awk '
		!/^  [a-z[]/ { next }
		/^  debug / { print "debug"; next }
		{
			sub(/^  /, "")
			name = ""
			n = split($0, words, / +/)
			for (i = 1; i <= n; i++) {          # names stand apart by commas, text after spaces
				word = words[i]
				more = word ~ /,$/
				sub(/,$/, "", word)
				if (word ~ /^\[no\]/) {
					sub(/^\[no\]/, "", word)
					print word; print "no" word
				} else if (word ~ /\[=/) {
					sub(/\[=.*/, "", word)
					print word
				} else if (word ~ /=/) {
					match(word, /\+?=/)
					name = substr(word, 1, RSTART + RLENGTH - 1)
					value = substr(word, RSTART + RLENGTH)
					if (value ~ /^[a-z0-9|]+$/) {
						m = split(value, values, "|")
						for (j = 1; j <= m; j++) print name values[j]
					} else print name
				} else if (word ~ /^[a-z_]+$/) print name word        # `name=one, two`
				if (!more) break
			}
		}' | sort -u
}

_fuse_unionfs() {
	local cur before item
	cur=${COMP_WORDS[COMP_CWORD]}
	COMPREPLY=()

	if [[ ${COMP_WORDS[1]} == ctl && $COMP_CWORD -gt 1 ]]; then
		_fuse_unionfs_ctl "$cur"
		return
	fi
	# Readline breaks words at = and :, so look at the line to know whether this is an option string.
	before=${COMP_LINE:0:COMP_POINT}
	if [[ $before =~ (^|[[:space:]])-o[[:space:]]*([^[:space:]]*)$ ]]; then
		item=${BASH_REMATCH[2]##*,}
		case $item in
		lowerdir=* | lowerdir+=* | datadir+=* | upperdir=* | workdir=*)
			item=${item#*=} item=${item##*:}
			compopt -o nospace 2>/dev/null
			mapfile -t COMPREPLY < <(compgen -d -S / -- "$item")
			_fuse_unionfs_cut "$item" "$cur"
			return
			;;
		esac
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "$(_fuse_unionfs_options "${COMP_WORDS[0]}")" -- "$item")
		_fuse_unionfs_cut "$item" "$cur"
		return
	fi
	case $cur in
	-*) mapfile -t COMPREPLY < <(compgen -W '-f -d -s -o --debug --help --version -h -V' -- "$cur") ;;
	*)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		[[ $COMP_CWORD == 1 && ctl == "$cur"* ]] && COMPREPLY+=(ctl)
		;;
	esac
}

_fuse_unionfs_ctl() { # commands come from `fuse-unionfs ctl --help`
	local words=
	case $COMP_CWORD in
	2)
		mapfile -t COMPREPLY < <(compgen -d -- "$1")
		return
		;;
	3) words=$("${COMP_WORDS[0]}" ctl --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }') ;;
	4)
		case ${COMP_WORDS[3]} in
		status) words=--json ;;
		log) words='error warning info debug' ;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$1")
}

# Replies are whole items; readline replaces only the word @2, a tail of what has been typed of @1.
# Where the word also has earlier options in it, they are put before the replies.
_fuse_unionfs_cut() {
	local item=$1 cur=$2 i head
	case $cur in = | :) cur= ;; esac
	for i in "${!COMPREPLY[@]}"; do
		if [[ $cur == *"$item" ]]; then
			head=${cur%"$item"}
			COMPREPLY[i]=$head${COMPREPLY[i]}
		elif [[ $item == *"$cur" ]]; then
			head=${item%"$cur"}
			COMPREPLY[i]=${COMPREPLY[i]#"$head"}
		fi
	done
}

_fuse_unionfs_layer() { # commands and their options come from its --help
	local tool=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]}
	COMPREPLY=()
	if [[ $COMP_CWORD == 1 ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$tool" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }') --help --version" \
			-- "$cur")
	elif [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$("$tool" "${COMP_WORDS[1]}" --help 2>/dev/null |
			grep -o -- '--[a-z]*=\{0,1\}')" -- "$cur")
		[[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
	else
		[[ $cur == = ]] && cur= # readline has cut --data=DIR in three
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
	fi
}

complete -F _fuse_unionfs fuse-unionfs
complete -F _fuse_unionfs_layer fuse-unionfs-layer
