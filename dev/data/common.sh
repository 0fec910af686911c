# shellcheck shell=bash
# The common part of all recipes, which dev/data/*.sh source: options, downloads with resume and checks, tokenizer, shards.
set -euo pipefail
started_in=$PWD arguments=("$@")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
kiln=${KILN:-./kiln}
hub=${HF_ENDPOINT:-https://huggingface.co}
modelscope=${MODELSCOPE_ENDPOINT:-https://www.modelscope.cn}
script=dev/data/$(basename "$0")

fail() { echo "$script: $*" >&2; exit 1; }
say() { echo "$*" >&2; }

usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    cat <<END

Examples:
  $script
  $script --tokenizer gpt2 --output data/mine
  $script --list --mirror https://hf-mirror.com

Usage: $script [OPTIONS] [-- OPTIONS OF kiln prepare]
  --output DIR          directory for all files [data/$(basename "$0" .sh)]
  --tokenizer NAME|DIR  gpt2, cl100k_base, ...: import it; train: train one on the text; else a tokenizer's directory
  --files N             the number of files, if there are many
  --mirror URL          replaces huggingface.co, e.g. https://hf-mirror.com (or HF_ENDPOINT); or: modelscope
  --download-only       stop after the files are downloaded and checked
  --list                print the path and the address of each file, and download nothing
KILN_DATA_MIRROR=URL stands for all other publishers: https://HOST/PATH is looked for at URL/HOST/PATH. HF_TOKEN is sent
to Hugging Face for data sets that ask for a login. The same command resumes a run that was stopped, and does nothing twice.
END
}

# Sets the variables below from the options, and locks the directory for one process.
output=data/$(basename "$0" .sh) mirror='' tokenizer='' files='' download_only='' list='' prepare_options=()
while [ $# -gt 0 ]; do
    case $1 in
        --output | --tokenizer | --files | --mirror)
            [ $# -ge 2 ] || { echo "$script: $1 needs a value; see $script --help" >&2; exit 2; }
            printf -v "${1#--}" %s "$2"
            [ "$1" != --output ] || output=$(cd "$started_in" && realpath -m -- "$2")
            [ "$1" != --tokenizer ] || [ ! -e "$started_in/$2" ] || tokenizer=$(realpath -- "$started_in/$2")
            shift 2
            ;;
        --download-only) download_only=1; shift ;;
        --list) list=1 download_only=1; shift ;;
        --help | -h) usage; exit 0 ;;
        --) shift; prepare_options=("$@"); break ;;
        *) echo "$script: unknown option $1; see $script --help" >&2; exit 2 ;;
    esac
done
case $files in *[!0-9]* | 0*) echo "$script: --files $files: a whole number of at least 1 is needed" >&2; exit 2 ;; esac
case $mirror in
    '' | modelscope) ;;
    http://* | https://*) hub=$mirror ;;
    *) echo "$script: --mirror $mirror: it must be an address or modelscope" >&2; exit 2 ;;
esac
hub=${hub%/}
for program in curl sha256sum flock; do
    command -v $program >/dev/null || fail "needs $program; run 'make setup' or install it"
done
raw=$output/raw
if [ -z "$list" ]; then
    case $(basename "$0" .sh) in
        cci3 | fineweb_edu | gpt2_output) ;;
        *) [ -z "$files" ] || say "--files has no effect here: there is one set of files" ;;
    esac
    case $(basename "$0" .sh) in
        alpaca | belle | hellaswag | sms_spam)
            [ -z "$tokenizer" ] || say "--tokenizer has no effect here: no shards are made" ;;
    esac
    mkdir -p "$raw"
    exec 9>"$output/.lock"
    flock -n 9 || fail "another process is writing to $output; wait for it or choose another --output"
fi

# curl with the limits of a recipe. The token goes through standard input, so that lists of processes do not show it.
request() {  # URL, curl's options...
    local url=$1 token=''
    shift
    [ -z "${HF_TOKEN:-}" ] || [[ $url != "$hub"/* ]] || token="header = \"Authorization: Bearer $HF_TOKEN\""
    curl --config - --fail --location --proto '=http,https' --connect-timeout 5 --speed-limit 1000 --speed-time 60 \
        --write-out '%{http_code}' "$@" -- "$url" <<<"$token"
}

# Ends the recipe if another attempt would not help. Takes curl's exit code, the HTTP status, and the address.
give_up_on() {
    local host=${3#*://}
    host=${host%%/*}
    case $1:$2 in
        5:* | 6:* | 7:* | 28:000 | 35:* | 60:*)
            fail "$host cannot be reached (curl: $1). Behind a proxy: https_proxy. $elsewhere. Or fetch the files yourself," \
                "to these paths, and run this again:"$'\n'"$(cd "$started_in" && "$0" --list "${arguments[@]}")"
            ;;
        22:401 | 22:403) fail "$3: refused ($2); accept its terms on the publisher's page and set HF_TOKEN" ;;
        22:404) fail "$3: there is no such file (any more)" ;;
        22:4[0-9][0-9]) case $2 in 408 | 416 | 429) ;; *) fail "$3: the server answers $2" ;; esac ;;
        23:*) fail "$raw cannot be written; is the disk full?" ;;
    esac
}

# Prints the start of a small text.
text() {  # URL
    local file=$raw/.text code=0 status
    status=$(request "$1" --silent --max-time 30 --retry 2 --retry-delay 1 --retry-max-time 4 --range 0-999999 \
        --output "$file") || code=$?
    give_up_on $code "$status" "$1"
    [ $code = 0 ] || fail "$1: curl ends with $code, the server's status is $status; try again later"
    cat "$file"
    rm -f "$file"
}

has_sha256() { [ "$(sha256sum <"$1" | cut -d ' ' -f 1)" = "$2" ]; }

# Downloads raw/NAME and checks its SHA-256. Without one, only the server's length shows whether it is complete.
download() {  # NAME URL [SHA256]
    [ -z "$list" ] || { echo "  $raw/$1  $2"; return; }
    local path=$raw/$1 url=$2 sha=${3:-} part=$raw/$1.part progress=(--silent --show-error) attempt code status resumed
    if [ -e "$path" ]; then say "$path is there"; return; fi
    [ -n "$sha" ] || say "$1: its publisher gives no checksum"
    [ ! -t 2 ] || progress=(--progress-bar)
    mkdir -p "$(dirname "$path")"
    for attempt in 1 2 3 4; do
        code=0 resumed=''
        [ ! -s "$part" ] || resumed=1
        say "$url${resumed:+ from byte $(stat -c %s "$part")}"
        status=$(request "$url" "${progress[@]}" --continue-at - --output "$part") || code=$?
        give_up_on $code "$status" "$url"
        case $code:$status in
            0:*) ;;
            22:416) [ -n "$sha" ] || rm -f "$part" ;;  # the part is complete or too long
            33:* | 36:*) rm -f "$part"; continue ;;    # the server cannot resume
            *) [ $attempt = 4 ] || sleep $((attempt - 1)); continue ;;
        esac
        [ -e "$part" ] || continue
        if [ -z "$sha" ] || has_sha256 "$part" "$sha"; then
            sync "$part"
            mv "$part" "$path"
            return
        fi
        local got
        got=$(sha256sum <"$part" | cut -d ' ' -f 1)
        rm -f "$part"
        # The part may be of another version of the file; start from the beginning.
        [ -n "$resumed" ] || fail "$url: SHA-256 is $got, expected $sha; nothing of it was kept"
    done
    fail "$url: four attempts, and it is not complete (curl: $code, status $status); run this again to resume"
}

# A file of a publisher other than Hugging Face.
publisher() {  # NAME URL [SHA256]
    local url=$2 elsewhere='Another server with the same files: KILN_DATA_MIRROR=URL'
    [ -z "$mirror" ] || [ -n "$list" ] ||
        say "--mirror has no effect here: it replaces Hugging Face; KILN_DATA_MIRROR=URL replaces other publishers"
    mirror=''
    [ -z "${KILN_DATA_MIRROR:-}" ] || url=${KILN_DATA_MIRROR%/}/${url#*://}
    download "$1" "$url" "${3:-}"
}

# A file of a Hugging Face data set, checked against the SHA-256 in its LFS pointer; or the same file from ModelScope,
# checked against the SHA-256 in its listing. The fifth argument is its path there, if it differs.
hugging_face() {  # NAME REPOSITORY PATH [MODELSCOPE_REPOSITORY [MODELSCOPE_PATH]]
    local name=$1 repository=$2 path=$3 sha='' elsewhere='Elsewhere: --mirror https://hf-mirror.com'
    if [ $# -ge 4 ]; then elsewhere+=' or --mirror modelscope'; fi
    if [ -z "$list" ] && [ -e "$raw/$name" ]; then say "$raw/$name is there"; return; fi
    if [ "$mirror" = modelscope ]; then
        [ $# -ge 4 ] || fail "ModelScope is not known to have $repository; use --mirror https://hf-mirror.com"
        repository=$4 path=${5:-$3}
        local folder
        folder=$(dirname "/$path")
        local listing=''
        [ -n "$list" ] || listing=$(text "$modelscope/api/v1/datasets/$repository/repo/tree?Revision=master&Root=${folder#/}&PageSize=2000")
        sha=$(tr -d ' \n' <<<"$listing" | tr '{' '\n' | grep -F "\"Path\":\"$path\"" |
            sed -n 's/.*"Sha256":"\([0-9a-f]\{64\}\)".*/\1/p') || sha=''
        download "$name" "$modelscope/datasets/$repository/resolve/master/$path" "$sha"
    else
        [ -n "$list" ] || sha=$(text "$hub/datasets/$repository/raw/main/$path" | sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p')
        download "$name" "$hub/datasets/$repository/resolve/main/$path" "$sha"
    fi
}

# Writes raw/sample.txt, text to train a tokenizer on: the field KEY in the first 100 MB of each .jsonl or .json FILE. It
# decodes only JSON's frequent escapes, which is good enough for this.
sample() {  # KEY FILE...
    local key=$1 path=$raw/sample.txt
    shift
    [ ! -e "$path" ] || return 0
    stop_after_download
    head -q -c 100000000 "$@" | tr '}' '\n' | LC_ALL=C grep -oE "\"$key\": *\"([^\"\\\\]|\\\\.)*\"" |
        LC_ALL=C sed -E 's/^"[^"]*": *"//; s/"$//; s/\\n/\n/g; s/\\t/\t/g; s/\\(["\\/])/\1/g' >"$path.part" ||
        fail "no field \"$key\" in $*"
    mv "$path.part" "$path"
}

stop_after_download() {
    [ -z "$list" ] || exit 0
    [ -z "$download_only" ] || { say "the files are in $raw"; exit 0; }
}

# Makes $tokenizer a directory: from --tokenizer, or from DEFAULT, which is a published name or train:SIZE.
choose_tokenizer() {  # DEFAULT [FILE TO TRAIN ON...]
    stop_after_download
    [ -x "$kiln" ] || fail "$kiln is not built; run 'make'"
    local default=$1 choice=${tokenizer:-$1}
    shift
    if [ "$choice" = train ]; then choice=train:16384; fi
    if [[ ${tokenizer:-train} = train && $default = train:* ]]; then choice=$default; fi
    tokenizer=$choice
    [ ! -e "$choice" ] || return 0
    tokenizer=$output/tokenizer-${choice//:/-}
    if [ -e "$tokenizer/tokenizer.json" ]; then say "$tokenizer is there"; return; fi
    if [[ $choice == train:* ]]; then
        [ $# -gt 0 ] || fail "there is no plain text here to train on; train a tokenizer yourself and name its directory"
        "$kiln" tokenizer train --input "$@" --vocab-size "${choice#train:}" --output "$tokenizer" --overwrite
    else
        # A mirror of everything has the tokenizer's publisher too.
        local mirror_of_all=${KILN_DATA_MIRROR:+${KILN_DATA_MIRROR%/}/openaipublic.blob.core.windows.net}
        KILN_MIRROR=${KILN_MIRROR:-$mirror_of_all} "$kiln" tokenizer import "$choice" --output "$tokenizer" --overwrite
    fi
}

# output/shards, from what is in raw/.
make_shards() {  # options of kiln prepare
    if [ -e "$output/shards/shards.json" ]; then
        say "$output/shards is there; remove it to make it anew"
    else
        "$kiln" prepare "$@" --tokenizer "$tokenizer" --output "$output/shards" "${prepare_options[@]}"
    fi
    say "train on it: ./train_gpt2 -i $output/shards -o runs/$(basename "$output") shows models (-e) that fit this machine"
}
