<?php
/*
 * Runs on the firewall, once per observation or transaction, never stored there: by SSH on the standard input of php, or by XML-RPC as the
 * code of exec_php, which evaluates it inside a function and gives back $toreturn.
 * The request is JSON in base64, put in place of the word below. The answer is one line:
 *     RECONCILER-RESULT <nonce> <base64 of JSON> END
 * Everything is inside functions, because pfSense's includes share the global scope and already use its short names.
 * Written for 2.7.2 and 2.8; where they differ, the function is looked at and the version is not asked for.
 */

$reconciler_request = json_decode(base64_decode('@REQUEST@'), true);
$reconciler_name = $reconciler_value = null;

/* A glance at a file that is as it was needs nothing of pfSense, so that one may be taken every few seconds. */
if ($reconciler_request['verb'] !== 'glance' || @hash_file('sha256', '/cf/conf/config.xml') !== $reconciler_request['known']) {
	require_once("config.inc");
	require_once("functions.inc");
	require_once("filter.inc");
	require_once("shaper.inc");
	require_once("notices.inc");
	if (stream_resolve_include_path("haproxy/haproxy.inc")) {
		require_once("haproxy/haproxy.inc");
	}
	/* Evaluated inside a function, an include sets variables there, where functions that ask for globals do not find them. */
	foreach (get_defined_vars() as $reconciler_name => $reconciler_value) {
		if (!array_key_exists($reconciler_name, $GLOBALS)) {
			$GLOBALS[$reconciler_name] = $reconciler_value;
		}
	}
}

class ReconcilerRefusal extends Exception {
	public $kind;
	public function __construct($kind, $message) {
		parent::__construct($message);
		$this->kind = $kind;
	}
}

const RECONCILER_HAPROXY = 'installedpackages/haproxy';
const RECONCILER_SETTINGS = ['enable', 'maxconn', 'nbthread', 'hard_stop_after'];
const RECONCILER_LISTS = ['aliases/alias', 'nat/rule', 'filter/rule', RECONCILER_HAPROXY . '/ha_backends/item', RECONCILER_HAPROXY . '/ha_pools/item'];
/* Where names of aliases may stand, anywhere in the configuration. */
const RECONCILER_REFERRING = ['address', 'network', 'port', 'sourceport', 'dstport', 'target', 'local-port', 'extaddr_custom', 'extaddr_port', 'value'];

function reconciler_path($key, $default) {
	global $g;
	return isset($g[$key]) ? $g[$key] : $default;
}

function reconciler_file() {
	return reconciler_path('cf_conf_path', '/cf/conf') . '/config.xml';
}

function reconciler_sha() {
	return hash_file('sha256', reconciler_file());
}

/* Read the file itself, not the cache that the includes may have used. */
function reconciler_reload() {
	$read = function_exists('config_read_file') ? config_read_file(false, false) : parse_config(true);
	if (is_array($read)) {
		$GLOBALS['config'] = $read;
	}
	if (!is_array($GLOBALS['config']) || !isset($GLOBALS['config']['system'])) {
		throw new ReconcilerRefusal('failed', 'the configuration of the firewall cannot be read');
	}
}

/* Lists are empty strings when they are empty. */
function reconciler_list($path) {
	$items = config_get_path($path, []);
	return is_array($items) ? $items : [];
}

function reconciler_haproxy_installed() {
	return function_exists('haproxy_check_and_run') && is_array(config_get_path(RECONCILER_HAPROXY));
}

/* The states of HAProxy's servers and frontends, as "proxy/server" => "UP"; null when the process does not answer. */
function reconciler_stats() {
	$socket = @stream_socket_client('unix://' . reconciler_path('tmp_path', '/tmp') . '/haproxy.socket', $code, $text, 2);
	if (!$socket) {
		return null;
	}
	stream_set_timeout($socket, 2);
	fwrite($socket, "show stat\n");
	$states = [];
	while (($row = fgetcsv($socket, 0, ',', '"', '')) !== false) {
		if (count($row) > 17 && substr($row[0], 0, 1) != '#') {
			$states[$row[0] . '/' . $row[1]] = $row[17];
		}
	}
	fclose($socket);
	return (object)$states;
}

/* Passwords of pools and of the statistics page stay on the firewall. */
function reconciler_without_passwords($items) {
	return array_map(function ($item) {
		return is_array($item) ? array_filter($item, function ($key) {
			return strpos((string)$key, 'password') === false;
		}, ARRAY_FILTER_USE_KEY) : $item;
	}, array_values($items));
}

function reconciler_observe_once() {
	$sha = reconciler_sha();
	reconciler_reload();
	$lists = [];
	foreach (RECONCILER_LISTS as $path) {
		$lists[$path] = reconciler_without_passwords(reconciler_list($path));
	}
	$settings = null;
	if (reconciler_haproxy_installed()) {
		$settings = new stdClass();
		foreach (RECONCILER_SETTINGS as $key) {
			$value = config_get_path(RECONCILER_HAPROXY . '/' . $key);
			if ($value !== null) {
				$settings->$key = $value;
			}
		}
	}
	return [
		'sha' => $sha,
		'version' => trim((string)@file_get_contents('/etc/version')),
		'revision' => (object)config_get_path('revision', []),
		'history' => reconciler_history(),
		'lists' => $lists,
		'settings' => $settings,
		'stats' => $settings === null ? null : reconciler_stats(),
		'pending' => file_exists(reconciler_pending()) && !reconciler_at_work(),
	];
}

/* What pfSense keeps of earlier revisions, newest first. The present one enters it with the next write only. */
function reconciler_history() {
	$text = @file_get_contents(reconciler_path('cf_conf_path', '/cf/conf') . '/backup/backup.cache');
	$kept = $text === false ? [] : @unserialize($text, ['allowed_classes' => false]);
	$kept = is_array($kept) ? $kept : [];
	krsort($kept);
	$history = [];
	foreach (array_slice($kept, 0, 30, true) as $time => $one) {
		$history[] = ['time' => (string)$time, 'description' => (string)($one['description'] ?? '')];
	}
	return $history;
}

/* Say who changed the file, if it is another one than was known. */
function reconciler_glance($request) {
	$sha = reconciler_sha();
	if ($sha === $request['known']) {
		return ['sha' => $sha];
	}
	reconciler_reload();
	return ['sha' => $sha, 'revision' => (object)config_get_path('revision', []), 'history' => reconciler_history()];
}

/* Take what was read only when the file stayed the same meanwhile. */
function reconciler_observe() {
	for ($attempt = 0; $attempt < 5; $attempt++) {
		$seen = reconciler_observe_once();
		if ($seen['sha'] === reconciler_sha()) {
			return $seen;
		}
		usleep(200000);
	}
	throw new ReconcilerRefusal('busy', 'the configuration keeps changing while it is read');
}

/* A note on disk that a write was saved but is not in force yet, for the case that this process dies in between. */
function reconciler_pending() {
	return reconciler_path('cf_conf_path', '/cf/conf') . '/reconciler-pending';
}

/* Say whether a transaction is under way at this moment: what it has saved it will load itself. */
function reconciler_at_work() {
	$handle = @fopen(reconciler_path('tmp_path', '/tmp') . '/reconciler.lock', 'ce');
	return $handle && !flock($handle, LOCK_SH | LOCK_NB);
}

function reconciler_lock($seconds) {
	/* "e": without close-on-exec HAProxy would inherit the lock and hold it as long as it lives. */
	$handle = fopen(reconciler_path('tmp_path', '/tmp') . '/reconciler.lock', 'ce');
	$deadline = microtime(true) + $seconds;
	while (!$handle || !flock($handle, LOCK_EX | LOCK_NB)) {
		if (!$handle || microtime(true) >= $deadline) {
			throw new ReconcilerRefusal('busy', 'another run of this program holds the lock on the firewall');
		}
		usleep(100000);
	}
	return $handle;
}

function reconciler_holds($item, $key) {
	foreach ($key as $name => $value) {
		if (!is_array($item) || !array_key_exists($name, $item) || (string)$item[$name] !== (string)$value) {
			return false;
		}
	}
	return true;
}

/* Find one item: at the index seen under this very hash, if it still is what was seen there, else by its key. */
function reconciler_find($items, $edit) {
	if (isset($edit['at'])) {
		if (!isset($items[$edit['at']]) || !reconciler_holds($items[$edit['at']], $edit['key'])) {
			throw new ReconcilerRefusal('conflict', 'an item of ' . $edit['list'] . ' is no longer what it was');
		}
		return $edit['at'];
	}
	foreach ($items as $index => $item) {
		if (reconciler_holds($item, $edit['key'])) {
			return $index;
		}
	}
	return null;
}

function reconciler_merge($item, $edit) {
	foreach ($edit['set'] ?? [] as $name => $value) {
		$item[$name] = $value;
	}
	foreach ($edit['unset'] ?? [] as $name) {
		unset($item[$name]);
	}
	return $item;
}

/* Indexes stay true while all edits are made; the gaps are closed at the end. */
function reconciler_edit($edits) {
	$lists = [];
	foreach ($edits as $edit) {
		if (isset($edit['path'])) {
			$item = config_get_path($edit['path'], []);
			config_set_path($edit['path'], reconciler_merge(is_array($item) ? $item : [], $edit));
			continue;
		}
		$path = $edit['list'];
		$lists[$path] = $lists[$path] ?? array_values(reconciler_list($path));
		$index = reconciler_find($lists[$path], $edit);
		if (!empty($edit['delete'])) {
			unset($lists[$path][$index]);
		} elseif ($index === null) {
			$lists[$path][] = reconciler_merge($edit['key'], $edit);
		} else {
			$lists[$path][$index] = reconciler_merge($lists[$path][$index], $edit);
		}
	}
	foreach ($lists as $path => $items) {
		/* the whole list, because a path ending in a slash appends in 2.8 and overwrites in 2.7.2 */
		config_set_path($path, array_values($items));
	}
}

/* Name every place that uses an alias: "filter rule 3 (descr)". */
function reconciler_users($name, $data, $trail) {
	$users = [];
	foreach ($data as $key => $value) {
		if (is_array($value)) {
			$users = array_merge($users, reconciler_users($name, $value, array_merge($trail, [[$key, $value]])));
		} elseif (in_array($key, RECONCILER_REFERRING, true) && in_array($name, preg_split('/[\s,]+/', (string)$value), true)) {
			$users[] = reconciler_place($trail);
		}
	}
	return $users;
}

function reconciler_place($trail) {
	$words = [];
	$called = '';
	foreach ($trail as list($key, $value)) {
		$words[] = is_int($key) ? $key + 1 : $key;
		$called = $value['name'] ?? $value['descr'] ?? $called;
	}
	return implode(' ', $words) . (is_string($called) && $called !== '' ? " ($called)" : '');
}

/* Refuse to leave anything behind that refers to what is gone: pfSense itself would drop such rules without a word. */
function reconciler_check_references($gone) {
	foreach ($gone as $item) {
		$users = [];
		if ($item['kind'] === 'Alias') {
			$users = reconciler_users($item['name'], $GLOBALS['config'], []);
		} else {
			foreach (reconciler_list(RECONCILER_HAPROXY . '/ha_backends/item') as $frontend) {
				$rules = $frontend['a_actionitems']['item'] ?? [];
				$named = array_merge([$frontend['backend_serverpool'] ?? ''], is_array($rules) ? array_column($rules, 'use_backendbackend') : []);
				if (in_array($item['name'], $named, true)) {
					$users[] = 'frontend (' . $frontend['name'] . ')';
				}
			}
		}
		if ($users) {
			$who = implode(', ', array_unique($users));
			throw new ReconcilerRefusal('used', "{$item['kind']} {$item['name']} is still used by: $who; change or delete that first");
		}
	}
}

/* HAProxy's own words without HTML. */
function reconciler_plain($messages) {
	$text = html_entity_decode(strip_tags(str_replace('<br/>', "\n", (string)$messages)), ENT_QUOTES);
	$lines = array_filter(array_map('trim', explode("\n", $text)), function ($line) {
		return strpos($line, '[ALERT]') !== false;
	});
	return $lines ? implode('; ', $lines) : trim(preg_replace('/\s+/', ' ', $text));
}

function reconciler_haproxy($reload) {
	/* the package adds to its messages over the life of a process */
	$GLOBALS['haproxy_run_message'] = '';
	$messages = '';
	$valid = haproxy_check_and_run($messages, $reload);
	if ($valid && $reload) {
		@unlink(reconciler_path('varrun_path', '/var/run') . '/haproxy.conf.dirty');
	}
	return $valid ? '' : (reconciler_plain($messages) ?: 'haproxy refused without saying why');
}

function reconciler_unresolvable() {
	$lines = @file(reconciler_path('tmp_path', '/tmp') . '/rules.debug', FILE_IGNORE_NEW_LINES) ?: [];
	return array_values(preg_grep('/^# Unresolvable/', $lines));
}

/* Bring the configuration in memory into force. Returns why that failed, or ''. */
function reconciler_load($request, $known) {
	alias_make_table();
	if ($request['filter']) {
		if (filter_configure_sync() !== 0) {
			return 'pf refused the rules; see the notices of the firewall';
		}
		$skipped = array_diff(reconciler_unresolvable(), $known);
		if ($skipped) {
			return 'pf would skip rules: ' . implode('; ', $skipped);
		}
	}
	return $request['haproxy'] ? reconciler_haproxy(true) : '';
}

function reconciler_normal($value) {
	if (!is_array($value)) {
		return (string)$value;
	}
	$value = array_map('reconciler_normal', array_filter($value, function ($one) {
		return $one !== false;
	}));
	return $value === [] ? '' : $value;
}

/* What the file must give back after a write. Items without content vanish on reading. */
function reconciler_content() {
	$content = [];
	foreach (RECONCILER_LISTS as $path) {
		$content[$path] = array_values(array_filter(array_map('reconciler_normal', reconciler_list($path)), function ($item) {
			return $item !== '';
		}));
	}
	foreach (RECONCILER_SETTINGS as $key) {
		$content[$key] = config_get_path(RECONCILER_HAPROXY . '/' . $key) === null ? null : reconciler_normal(config_get_path(RECONCILER_HAPROXY . '/' . $key));
	}
	return $content;
}

/* Write, and say whether a fresh reading gives what was written. 2.7.2 may stumble in the middle over a file that it cannot read back. */
function reconciler_keeps($description) {
	$content = reconciler_content();
	try {
		$written = write_config($description);
		reconciler_reload();
		return is_array($written) && $content === reconciler_content();
	} catch (Throwable $error) {
		return false;
	}
}

function reconciler_snapshot($request) {
	$folder = reconciler_path('cf_conf_path', '/cf/conf');
	$old = glob("$folder/reconciler-before-*.xml") ?: [];
	usort($old, function ($one, $other) {
		return filemtime($other) <=> filemtime($one);
	});
	array_map('unlink', array_slice($old, 4));
	$path = "$folder/reconciler-before-" . str_replace(':', '-', $request['transaction']) . '.xml';
	$mask = umask(0077);
	$copied = @copy(reconciler_file(), $path) && @hash_file('sha256', $path) === reconciler_sha();
	umask($mask);
	if (!$copied) {
		@unlink($path);
		throw new ReconcilerRefusal('failed', 'the configuration cannot be copied aside, nothing was written; is the disk full?');
	}
	return $path;
}

/* Two arguments and a bool in 2.8; one argument and 0 for success in 2.7.2. */
function reconciler_restore($snapshot, $request, $known) {
	if (!is_array($GLOBALS['config'])) {
		$GLOBALS['config'] = [];
	}
	try {
		$arguments = (new ReflectionFunction('config_restore'))->getNumberOfParameters();
		$result = $arguments > 1 ? config_restore($snapshot, 'before ' . $request['description']) : config_restore($snapshot);
		$why = ($result === true || $result === 0) ? reconciler_load($request, $known) : 'config_restore failed';
	} catch (Throwable $error) {
		$why = 'php: ' . $error->getMessage();
	}
	if ($why !== '') {
		return "going back failed as well ($why); restore $snapshot by hand";
	}
	@unlink(reconciler_pending());
	return 'the configuration from before was restored and loaded';
}

function reconciler_at($config, $path) {
	foreach (explode('/', $path) as $key) {
		$config = is_array($config) ? ($config[$key] ?? null) : null;
	}
	return $config;
}

/* Whether two configurations say the same at a place. An absent setting is another thing than an empty one: "enable" means by being there. */
function reconciler_alike($one, $other, $path) {
	$one = reconciler_at($one, $path);
	$other = reconciler_at($other, $path);
	$both = in_array($path, RECONCILER_LISTS, true) || ($one === null) === ($other === null);
	return $both && reconciler_normal($one) === reconciler_normal($other);
}

/*
 * Somebody saved while our change was being loaded: the whole file put back would lose what they did. Only the places that we wrote go
 * back, and not even those when somebody else changed them, too.
 */
function reconciler_take_out($before, $written, $snapshot, $request, $known) {
	$places = array_merge(RECONCILER_LISTS, array_map(function ($key) {
		return RECONCILER_HAPROXY . '/' . $key;
	}, RECONCILER_SETTINGS));
	$places = array_filter($places, function ($path) use ($before, $written) {
		return !reconciler_alike($before, $written, $path);
	});
	reconciler_reload();
	$who = config_get_path('revision/username', 'somebody');
	foreach ($places as $path) {
		if (!reconciler_alike($written, $GLOBALS['config'], $path)) {
			return "$who changed $path meanwhile, so nothing was taken back: what was written stays saved but not loaded";
		}
	}
	foreach ($places as $path) {
		$old = reconciler_at($before, $path);
		$cut = strrpos($path, '/');
		$edit = ['path' => substr($path, 0, $cut), 'set' => [], 'unset' => [substr($path, $cut + 1)]];
		reconciler_edit([$old === null ? $edit : ['set' => [substr($path, $cut + 1) => $old], 'unset' => []] + $edit]);
	}
	if (!reconciler_keeps('before ' . $request['description'])) {
		return "taking back what was written failed, because $who saved meanwhile; compare the configuration with $snapshot";
	}
	$why = reconciler_load($request, $known);
	if ($why !== '') {
		return "what was written was taken back, but loading that failed as well ($why)";
	}
	@unlink(reconciler_pending());
	return "only what this change wrote was taken back, and loaded, because $who saved meanwhile";
}

function reconciler_expect($request) {
	if ($request['expect'] !== reconciler_sha()) {
		reconciler_reload();
		$who = config_get_path('revision/username', 'somebody') . ': ' . config_get_path('revision/description', '');
		throw new ReconcilerRefusal('conflict', "the configuration was changed since it was looked at, last by $who");
	}
}

/* An answer may have been lost on its way: the same transaction is then asked for again. */
function reconciler_is_done($request) {
	reconciler_reload();
	return substr((string)config_get_path('revision/description', ''), -strlen($request['transaction'])) === $request['transaction'];
}

function reconciler_write($request, $known) {
	$snapshot = reconciler_snapshot($request);
	if ($request['haproxy']) {
		$why = reconciler_haproxy(false);
		if ($why !== '') {
			throw new ReconcilerRefusal('refused', "haproxy refuses the new configuration, nothing was written: $why");
		}
	}
	reconciler_expect_unchanged($request);
	if (!@touch(reconciler_pending())) {
		throw new ReconcilerRefusal('failed', 'a note beside the configuration cannot be made, nothing was written; is the disk full?');
	}
	if (!reconciler_keeps($request['description'] . ' ' . $request['transaction'])) {
		$end = reconciler_restore($snapshot, $request, $known);
		throw new ReconcilerRefusal('failed', "pfsense did not keep what was written; $end");
	}
	return ['snapshot' => $snapshot, 'sha' => reconciler_sha(), 'config' => $GLOBALS['config']];
}

/* The same comparison, without reading the configuration into memory, where the edits are. */
function reconciler_expect_unchanged($request) {
	if ($request['expect'] !== reconciler_sha()) {
		throw new ReconcilerRefusal('conflict', 'the configuration was changed while this change was being prepared');
	}
}

function reconciler_apply($request) {
	if (file_exists(reconciler_path('varrun_path', '/var/run') . '/booting')) {
		throw new ReconcilerRefusal('busy', 'the firewall is still booting');
	}
	$lock = reconciler_lock($request['lock_seconds']);
	$known = reconciler_unresolvable();
	if (file_exists(reconciler_pending())) {
		/* an earlier run saved something and died before loading it; what it was is not known, so all is loaded */
		$request = array_merge($request, ['filter' => true, 'haproxy' => $request['haproxy'] || reconciler_haproxy_installed()]);
	}
	if ($request['haproxy'] && !reconciler_haproxy_installed()) {
		throw new ReconcilerRefusal('refused', 'the package haproxy is not installed on the firewall');
	}
	$before = $written = null;
	if (!reconciler_is_done($request)) {
		reconciler_expect($request);
		$before = $GLOBALS['config'];
		reconciler_edit($request['edits']);
		reconciler_check_references($request['gone']);
		if (reconciler_normal($before) !== reconciler_normal($GLOBALS['config'])) {
			alias_make_table();
			$written = reconciler_write($request, $known);
		}
	}
	if (file_exists(reconciler_pending())) {
		reconciler_bring_into_force($before, $written, $request, $known);
	}
	flock($lock, LOCK_UN);
	return reconciler_observe();
}

/* Load what is saved; take back what this run wrote when that cannot be done. */
function reconciler_bring_into_force($before, $written, $request, $known) {
	try {
		$why = reconciler_load($request, $known);
	} catch (Throwable $error) {
		$why = 'php: ' . $error->getMessage();
	}
	if ($why === '') {
		@unlink(reconciler_pending());
		return;
	}
	if ($written === null) {
		$end = 'the configuration stays saved but not loaded';
	} elseif (reconciler_sha() === $written['sha']) {
		$end = reconciler_restore($written['snapshot'], $request, $known);
	} else {
		$end = reconciler_take_out($before, $written['config'], $written['snapshot'], $request, $known);
	}
	throw new ReconcilerRefusal('failed', "$why; $end");
}

function reconciler_main($request) {
	/* a cut connection must not stop a transaction half way */
	ignore_user_abort(true);
	set_time_limit(0);
	if (function_exists('pcntl_signal')) {
		pcntl_signal(SIGHUP, SIG_IGN);
		pcntl_signal(SIGPIPE, SIG_IGN);
	}
	try {
		switch ($request['verb']) {
			case 'apply':
				$body = reconciler_apply($request);
				break;
			case 'glance':
				$body = reconciler_glance($request);
				break;
			default:
				$body = reconciler_observe();
		}
		$answer = ['ok' => true, 'body' => $body];
	} catch (ReconcilerRefusal $refusal) {
		$answer = ['ok' => false, 'kind' => $refusal->kind, 'message' => $refusal->getMessage()];
	} catch (Throwable $error) {
		$answer = ['ok' => false, 'kind' => 'failed', 'message' => 'php: ' . $error->getMessage() . ' (line ' . $error->getLine() . ')'];
	}
	$text = json_encode($answer, JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES);
	return "\nRECONCILER-RESULT " . $request['nonce'] . ' ' . base64_encode($text) . " END\n";
}

$toreturn = ['answer' => reconciler_main($reconciler_request)];
if ($reconciler_request['print']) {
	echo $toreturn['answer'];
}
