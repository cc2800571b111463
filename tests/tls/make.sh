#!/bin/sh
# Makes the certificates of the tests anew: a CA, a server's, a client's and a stranger's CA.
# They protect nothing, and are valid for a hundred years.
set -eu
cd "$(dirname "$0")"
new() { # name, subject, extensions
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" \
    -subj "/CN=$2" -out "$1.csr" 2>/dev/null
  printf '%s\n' "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 \
    -extfile "$1.ext" -out "$1.pem" 2>/dev/null
  rm "$1.csr" "$1.ext"
}
for ca in ca stranger; do
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
    -keyout "$ca.key" -out "$ca.pem" -subj "/CN=aiops tests $ca" \
    -addext "basicConstraints=critical,CA:TRUE" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
done
leaf='basicConstraints=CA:FALSE
keyUsage=critical,digitalSignature
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid'
new server airflow.test "$leaf
extendedKeyUsage=serverAuth
subjectAltName=DNS:airflow.test,DNS:localhost"
new client oncall "$leaf
extendedKeyUsage=clientAuth"
openssl pkey -in client.key -aes256 -passout pass:nobody-knows -out encrypted.key
rm -f ca.key ca.srl stranger.key
