<?php
// A message by PHPMailer: the argument is the file of a job.
require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;

$job = json_decode(file_get_contents($argv[1]), true);
$mail = new PHPMailer(true);
try {
    $mail->isSMTP();
    $mail->Host = $job['host'];
    $mail->Port = $job['port'];
    $mail->Hostname = 'client.test';
    $mail->Timeout = 30;
    $mail->SMTPAuth = $job['auth'] !== '';
    $mail->AuthType = $job['auth'];
    $mail->Username = $job['user'];
    $mail->Password = $job['secret'];
    $mail->SMTPAutoTLS = false;
    $mail->SMTPSecure = ['' => '', 'starttls' => PHPMailer::ENCRYPTION_STARTTLS, 'implicit' => PHPMailer::ENCRYPTION_SMTPS][$job['tls']];
    $mail->SMTPOptions = ['ssl' => ['cafile' => $job['ca']]];
    $mail->CharSet = PHPMailer::CHARSET_UTF8;
    $mail->Encoding = PHPMailer::ENCODING_8BIT;
    $mail->setFrom($job['sender'], 'Shop');
    foreach ($job['to'] as $recipient) {
        $mail->addAddress($recipient);
    }
    foreach ($job['bcc'] as $recipient) {
        $mail->addBCC($recipient);
    }
    $mail->Subject = $job['subject'];
    $mail->Body = $job['text'];
    if ($job['attachment'] !== '') {
        $mail->addAttachment($job['attachment']);
    }
    $mail->send();
} catch (Exception $error) {
    fwrite(STDERR, $mail->ErrorInfo . "\n");
    exit(1);
}
