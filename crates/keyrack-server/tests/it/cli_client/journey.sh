# From an empty installation to a revoked key, through the command line alone.
# Needs: `keyrack` on the path, URL and DATA_DIR of a running server, its operator key on the standard input.
set -euo pipefail

keyrack login --url "$URL"
OWNER=$(keyrack operator organizations create --username acme --domain acme.example)
echo "$OWNER" | keyrack login
PROJECT=$(keyrack projects create --name Shop --locale en-GB --timezone Europe/London --json | grep -o '"id": *[0-9]*' | head -1 | grep -o '[0-9]*')
for name in web mobile ci; do
    KEY=$(keyrack keys create --project "$PROJECT" --name "$name" --role admin)
done
echo "$KEY" | keyrack key inspect
echo "$KEY" | keyrack login

echo "-- three keys"
keyrack keys list --sort id --direction asc
ID=$(keyrack keys list --search ci --json | grep -o '"id": *[0-9]*' | head -1 | grep -o '[0-9]*')
keyrack keys update "$ID" --role editor --description 'Deploys from main'
# Its own role is too low for this now, so the owner does it.
if keyrack keys get "$ID"; then exit 99; fi
keyrack keys get "$ID" --project "$PROJECT"
keyrack keys revoke "$ID" --project "$PROJECT" --yes
if keyrack whoami; then exit 99; fi

echo "-- what happened"
keyrack audit list --as organization --direction asc
keyrack audit list --as operator --limit 1
keyrack audit verify --data-dir "$DATA_DIR"
keyrack audit export --data-dir "$DATA_DIR" | wc -l
