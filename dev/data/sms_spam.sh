#!/bin/bash
# SMS Spam Collection: 5,574 short messages in English marked ham or spam, 204 KB. CC BY 4.0, UCI. The result is a file for
# fine-tuning a classifier, with label<TAB>text on each line. (Kaggle's spam.csv is the same data, but needs a login.)
. "$(dirname "$0")/common.sh"
command -v unzip >/dev/null || fail "needs unzip; run 'make setup' or install it"
publisher sms_spam.zip "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip" \
    1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3
stop_after_download
unzip -p "$raw/sms_spam.zip" SMSSpamCollection >"$output/sms_spam.tsv.part"
mv "$output/sms_spam.tsv.part" "$output/sms_spam.tsv"
say "$(wc -l <"$output/sms_spam.tsv") messages: $output/sms_spam.tsv"
